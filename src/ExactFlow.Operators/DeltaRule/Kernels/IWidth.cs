namespace ExactFlow.Operators;

/// <summary>A number of vectors known to the compiler: a kernel written for four compiles for fewer by dropping what it does not need.</summary>
internal interface IWidth
{
    /// <summary>1 to 4.</summary>
    static abstract int Count { get; }
}

internal readonly struct Width1 : IWidth
{
    public static int Count => 1;
}

internal readonly struct Width2 : IWidth
{
    public static int Count => 2;
}

internal readonly struct Width3 : IWidth
{
    public static int Count => 3;
}

internal readonly struct Width4 : IWidth
{
    public static int Count => 4;
}
