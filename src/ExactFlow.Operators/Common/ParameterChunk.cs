namespace ExactFlow.Operators;

/// <summary>
/// All parameters that have a gradient, cut into chunks of one flat parallel loop: many small parameters cost no more than one large one.
/// The cut depends on the sizes only, never on the number of threads.
/// </summary>
internal unsafe struct ParameterChunk
{
    /// <summary>Elements of every chunk but a parameter's last one: 64 KB of each array.</summary>
    public const int Size = 1 << 14;

    /// <summary>Index of the parameter.</summary>
    public int Parameter;

    /// <summary>Elements.</summary>
    public int Length;

    /// <summary>First element within the parameter.</summary>
    public long Start;

    /// <summary>The gradient of the first element.</summary>
    public float* Gradient;

    /// <summary>How many chunks there are.</summary>
    public static int Count(IReadOnlyList<Parameter> parameters)
    {
        long count = 0;
        for (int i = 0; i < parameters.Count; i++)
        {
            count += parameters[i].Value.Grad is { } gradient ? (gradient.Count + Size - 1) / Size : 0;
        }

        return checked((int)count);
    }

    /// <summary>Writes all chunks, parameter after parameter.</summary>
    public static void Fill(IReadOnlyList<Parameter> parameters, ParameterChunk* chunks)
    {
        for (int i = 0; i < parameters.Count; i++)
        {
            if (parameters[i].Value.Grad is not { } gradient)
            {
                continue;
            }

            for (long start = 0; start < gradient.Count; start += Size)
            {
                *chunks++ = new ParameterChunk { Parameter = i, Length = (int)Math.Min(Size, gradient.Count - start), Start = start, Gradient = gradient.Floats + start };
            }
        }
    }
}
