using System.Collections.Concurrent;
using System.Runtime.CompilerServices;
using ExactFlow.Cuda;

namespace ExactFlow.Operators;

/// <summary>
/// How sequences are cut for the GPU: chunks of 64 or 32 tokens (a chunk never crosses a document), and segments of whole chunks that run side by side
/// when there are too few heads and sequences to fill the chip. Plans are kept: those of whole rows by their sizes, those of packed rows with their offsets.
/// </summary>
internal sealed class DeltaRuleCudaPlan
{
    private const int MaxSegments = 32;

    private static readonly ConcurrentDictionary<Request, DeltaRuleCudaPlan> OfRows = new();
    private static readonly ConditionalWeakTable<SequenceOffsets, ConcurrentDictionary<Request, DeltaRuleCudaPlan>> OfPackedRows = [];

    private readonly Func<int[]> takeChunks;
    private readonly Func<int[]> takeRanges;
    private readonly string chunksName;
    private readonly string rangesName;
    private readonly bool isPacked;

    private DeltaRuleCudaPlan(in Request request, bool isPacked, int sequences, int segments, int[] chunks, int[] ranges)
    {
        Sequences = sequences;
        Segments = segments;
        Slices = SlicesOf(request.Sizes);
        Chunks = chunks;
        Ranges = ranges;
        this.isPacked = isPacked;
        string name = $"delta_rule {request.Sizes.Batch} x {request.Sizes.Time} by {request.ChunkLength}, {segments} segments";
        (chunksName, rangesName) = ($"{name}: chunks", $"{name}: ranges");
        (takeChunks, takeRanges) = (() => Chunks, () => Ranges);
    }

    /// <summary>Rows of the batch, or documents.</summary>
    public int Sequences { get; }

    /// <summary>Segments of each sequence.</summary>
    public int Segments { get; }

    /// <summary>Slices of 64 value columns that a block of the tensor-core scans walks through the chunks, 1 or 2; two share what they load.</summary>
    public int Slices { get; }

    /// <summary>First token and length of every chunk, alternating.</summary>
    public int[] Chunks { get; }

    /// <summary>First and one-past-last chunk of every segment of every sequence, alternating.</summary>
    public int[] Ranges { get; }

    /// <summary>Number of chunks.</summary>
    public int ChunkCount => Chunks.Length / 2;

    /// <summary>The plan of a run.</summary>
    /// <param name="sizes">Sizes of the operands.</param>
    /// <param name="offsets">Documents of a packed row, or null.</param>
    /// <param name="chunkLength">Tokens per chunk, as the kernels are built.</param>
    /// <param name="multiprocessors">Of the GPU.</param>
    /// <param name="segments">Segments per sequence, or 0 to choose.</param>
    public static DeltaRuleCudaPlan For(DeltaRuleSizes sizes, SequenceOffsets? offsets, int chunkLength, int multiprocessors, int segments)
    {
        var request = new Request(sizes, chunkLength, multiprocessors, segments);
        return offsets is null
            ? OfRows.GetOrAdd(request, static (request, offsets) => Make(request, offsets), offsets)
            : OfPackedRows.GetOrCreateValue(offsets).GetOrAdd(request, static (request, offsets) => Make(request, offsets), offsets);
    }

    /// <summary>Device addresses of <see cref="Chunks"/> and <see cref="Ranges"/>, until the end of the step. A packed row's are copied each time, since it will hardly come again.</summary>
    public (nint Chunks, nint Ranges) OnDevice(CudaDevice device)
        => isPacked
            ? (device.From<int>(Chunks, [Chunks.Length]).Address, device.From<int>(Ranges, [Ranges.Length]).Address)
            : (device.Constants.Address(chunksName, takeChunks), device.Constants.Address(rangesName, takeRanges));

    private static DeltaRuleCudaPlan Make(in Request request, SequenceOffsets? offsets)
    {
        (DeltaRuleSizes sizes, int chunkLength, int multiprocessors, int segments) = request;
        int sequences = offsets?.Count ?? sizes.Batch;
        var chunks = new List<int>();
        var firstChunk = new int[sequences + 1];
        for (int sequence = 0; sequence < sequences; sequence++)
        {
            firstChunk[sequence] = chunks.Count / 2;
            int start = offsets?.Start(sequence) ?? sequence * sizes.Time, end = offsets?.End(sequence) ?? start + sizes.Time;
            for (int token = start; token < end; token += chunkLength)
            {
                chunks.Add(token);
                chunks.Add(Math.Min(chunkLength, end - token));
            }
        }

        firstChunk[sequences] = chunks.Count / 2;
        if (segments == 0)
        {
            int longest = Enumerable.Range(0, sequences).Select(sequence => firstChunk[sequence + 1] - firstChunk[sequence]).DefaultIfEmpty().Max();
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

        return new DeltaRuleCudaPlan(request, offsets is not null, sequences, segments, [.. chunks], ranges);
    }

    private static int SlicesOf(DeltaRuleSizes sizes) => Environment.GetEnvironmentVariable("EXACTFLOW_SLICES") is { } s ? int.Parse(s) : sizes.ValueDim % 128 == 0 ? 2 : 1;

    /// <summary>
    /// The number of segments with the least expected time, in chunk steps: a pass costs its longest chain times the waves of blocks it takes. Without segments that
    /// is one pass; with them a second pass over value and map columns precedes it, and combining costs about one step a segment (expected for an H100).
    /// </summary>
    private static int Choose(int heads, DeltaRuleSizes sizes, int chunks, int multiprocessors)
    {
        int slices = sizes.ValueDim / 64, mapSlices = sizes.KeyDim / 64, together = SlicesOf(sizes);
        long best = (long)chunks * Waves(heads, slices);
        int choice = 1;
        for (int segments = 2; segments <= Math.Min(MaxSegments, chunks / 4); segments++)
        {
            long length = (chunks + segments - 1) / segments, walks = (long)heads * segments;
            long cost = (length * (Waves(walks, slices) + Waves(walks, slices + mapSlices))) + segments + 8;
            if (cost < best)
            {
                (best, choice) = (cost, segments);
            }
        }

        return choice;

        long Waves(long walks, int columns) => ((walks * ((columns + together - 1) / together)) + multiprocessors - 1) / multiprocessors;
    }

    private readonly record struct Request(DeltaRuleSizes Sizes, int ChunkLength, int Multiprocessors, int Segments);
}
