namespace ExactFlow.Operators;

/// <summary>
/// How sequences are cut for the GPU: chunks of 64 tokens (a chunk never crosses a document), and segments of whole chunks that run side by side
/// when there are too few heads and sequences to fill the chip.
/// </summary>
internal sealed class DeltaRuleCudaPlan
{
    /// <summary>Tokens per chunk; the kernels are built for this number.</summary>
    public const int ChunkLength = 64;

    private const int MaxSegments = 32;

    private DeltaRuleCudaPlan(int sequences, int segments, int[] chunks, int[] ranges)
    {
        Sequences = sequences;
        Segments = segments;
        Chunks = chunks;
        Ranges = ranges;
    }

    /// <summary>Rows of the batch, or documents.</summary>
    public int Sequences { get; }

    /// <summary>Segments of each sequence.</summary>
    public int Segments { get; }

    /// <summary>First token and length of every chunk, alternating.</summary>
    public int[] Chunks { get; }

    /// <summary>First and one-past-last chunk of every segment of every sequence, alternating.</summary>
    public int[] Ranges { get; }

    /// <summary>Number of chunks.</summary>
    public int ChunkCount => Chunks.Length / 2;

    /// <summary>Plans a run.</summary>
    /// <param name="sizes">Sizes of the operands.</param>
    /// <param name="offsets">Documents of a packed row, or null.</param>
    /// <param name="multiprocessors">Of the GPU.</param>
    /// <param name="segments">Segments per sequence, or 0 to choose.</param>
    public static DeltaRuleCudaPlan Make(DeltaRuleSizes sizes, SequenceOffsets? offsets, int multiprocessors, int segments = 0)
    {
        int sequences = offsets?.Count ?? sizes.Batch;
        var chunks = new List<int>();
        var firstChunk = new int[sequences + 1];
        for (int sequence = 0; sequence < sequences; sequence++)
        {
            firstChunk[sequence] = chunks.Count / 2;
            int start = offsets?.Start(sequence) ?? sequence * sizes.Time, end = offsets?.End(sequence) ?? start + sizes.Time;
            for (int token = start; token < end; token += ChunkLength)
            {
                chunks.Add(token);
                chunks.Add(Math.Min(ChunkLength, end - token));
            }
        }

        firstChunk[sequences] = chunks.Count / 2;
        int longest = Enumerable.Range(0, sequences).Max(sequence => firstChunk[sequence + 1] - firstChunk[sequence]);
        if (segments == 0)
        {
            segments = Choose(sequences * sizes.ValueHeads, sizes, longest, multiprocessors);
        }

        var ranges = new int[sequences * segments * 2];
        for (int sequence = 0; sequence < sequences; sequence++)
        {
            int first = firstChunk[sequence], count = firstChunk[sequence + 1] - first;
            for (int segment = 0; segment < segments; segment++)
            {
                int at = ((sequence * segments) + segment) * 2;
                ranges[at] = first + (int)((long)count * segment / segments);
                ranges[at + 1] = first + (int)((long)count * (segment + 1) / segments);
            }
        }

        return new DeltaRuleCudaPlan(sequences, segments, [.. chunks], ranges);
    }

    /// <summary>
    /// The number of segments with the least expected time, in chunk steps: a pass costs its longest chain times the waves of blocks it takes. Without segments that
    /// is one pass; with them a second pass over value and map columns precedes it, and combining costs about three steps a segment (measured on an H100).
    /// </summary>
    private static int Choose(int heads, DeltaRuleSizes sizes, int chunks, int multiprocessors)
    {
        int slices = sizes.ValueDim / 64, mapSlices = sizes.KeyDim / 64;
        long best = (long)chunks * Waves((long)heads * slices);
        int choice = 1;
        for (int segments = 2; segments <= Math.Min(MaxSegments, chunks / 4); segments++)
        {
            long length = (chunks + segments - 1) / segments;
            long cost = (length * Waves((long)heads * segments * slices)) + (length * Waves((long)heads * segments * (slices + mapSlices))) + (3 * segments) + 8;
            if (cost < best)
            {
                (best, choice) = (cost, segments);
            }
        }

        return choice;

        long Waves(long blocks) => (blocks + multiprocessors - 1) / multiprocessors;
    }
}
