namespace ExactFlow.Benchmarks;

/// <summary>A group of benchmarks: a name to choose it by, what it measures, and the function that runs it.</summary>
public sealed record Suite(string Name, string Summary, Action<BenchmarkRun> Run);

/// <summary>All suites. A new one is a class with a Run function and a line here.</summary>
public static class Suites
{
    /// <summary>In the order of a full run.</summary>
    public static IReadOnlyList<Suite> All { get; } =
    [
        new("machine", "ceilings: matrix product, copy and read rates", MachineSuite.Run),
        new("matmul", "matrix products of squares and of language models, against OpenBLAS", MatrixProductSuite.Run),
        new("tile", "single-threaded products of cache-sized tiles, against the packed product's rate", TileProductSuite.Run),
        new("matvec", "decoding: few rows times a weight, against the read bandwidth", MatrixVectorSuite.Run),
        new("math", "float32 functions, vectorised, against the framework's", MathSuite.Run),
    ];
}
