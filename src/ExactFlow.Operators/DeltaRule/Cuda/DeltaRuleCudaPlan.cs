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

    private DeltaRuleCudaPlan(in Request request, bool isPacked, int sequences, int segments, int slices, int[] chunks, int[] ranges)
    {
        Sequences = sequences;
        Segments = segments;
        Slices = slices;
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
    /// <param name="wanted">Segments per sequence and slices of a block, or 0 to choose.</param>
    public static DeltaRuleCudaPlan For(DeltaRuleSizes sizes, SequenceOffsets? offsets, int chunkLength, int multiprocessors, (int Segments, int Slices) wanted)
    {
        var request = new Request(sizes, chunkLength, multiprocessors, wanted);
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
        (DeltaRuleSizes sizes, int chunkLength, int multiprocessors, (int Segments, int Slices) wanted) = request;
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
        int longest = Enumerable.Range(0, sequences).Select(sequence => firstChunk[sequence + 1] - firstChunk[sequence]).DefaultIfEmpty().Max();
        (int segments, int slices) = Choose(sequences * sizes.ValueHeads, sizes, longest, multiprocessors, wanted);

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

        return new DeltaRuleCudaPlan(request, offsets is not null, sequences, segments, slices, [.. chunks], ranges);
    }

    /// <summary>
    /// The numbers of segments and of slices in a block with the least expected time. The unit is a tenth of the time that a block with one slice takes for a chunk; one with
    /// two takes 14 (2.7 and 3.8 microseconds were measured on an H200). A pass costs its longest chain times the waves of blocks it takes. Without segments that is
    /// one pass; with them a second pass over value and map columns precedes it, and combining costs about half a chunk a segment, besides two more launches and what is kept for the way back.
    /// </summary>
    private static (int Segments, int Slices) Choose(int heads, DeltaRuleSizes sizes, int chunks, int multiprocessors, (int Segments, int Slices) wanted)
    {
        int columns = sizes.ValueDim / 64, mapColumns = sizes.KeyDim / 64;
        (long Cost, int Segments, int Slices) best = (long.MaxValue, 1, 1);
        foreach (int slices in wanted.Slices > 0 ? [wanted.Slices] : columns % 2 == 0 ? (ReadOnlySpan<int>)[1, 2] : [1])
        {
            int most = wanted.Segments > 0 ? wanted.Segments : Math.Clamp(chunks / 4, 1, MaxSegments);
            for (int segments = Math.Max(wanted.Segments, 1); segments <= most; segments++)
            {
                long length = (chunks + segments - 1) / segments * (slices == 1 ? 10 : 14), walks = (long)heads * segments, cost = length * Waves(walks, columns, slices);
                if (segments > 1)
                {
                    cost += (length * Waves(walks, columns + mapColumns, slices)) + (5 * segments) + 80;
                }

                if (cost < best.Cost)
                {
                    best = (cost, segments, slices);
                }
            }
        }

        return (best.Segments, best.Slices);

        long Waves(long walks, int all, int slices) => ((walks * ((all + slices - 1) / slices)) + multiprocessors - 1) / multiprocessors;
    }

    private readonly record struct Request(DeltaRuleSizes Sizes, int ChunkLength, int Multiprocessors, (int Segments, int Slices) Wanted);
}
