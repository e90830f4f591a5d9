using System.Runtime.CompilerServices;
using ExactFlow.Tensors;
using ExactFlow.Tensors.MatrixProduct;
using ExactFlow.Tensors.Memory;
using ExactFlow.Tensors.Simd;

namespace ExactFlow.Operators;

/// <remarks>
/// Both directions hold scores transposed, as [keys, queries]: queries lie in the lanes, so maxima, sums and exponentials over keys are plain vertical
/// vector operations, and a product with the weights reads them along rows whichever way it goes. Only a tile of queries is ever transposed, once per tile.
/// Query tiles start at their document's first token and so do key tiles: the last key tile of a query tile is its diagonal one, all others are full.
/// </remarks>
public static unsafe partial class SoftmaxAttention
{
    /// <summary>Queries, and keys, per tile.</summary>
    private const int Tile = 64;

    /// <summary>A tile on the diagonal is worked on in parts of this many keys and queries, which skips a quarter of it.</summary>
    private const int DiagonalPart = 32;

    private static void Forward(CpuDevice device, Tensor q, Tensor k, Tensor v, float scale, SequenceOffsets? offsets, Tensor output, Tensor? logSums)
    {
        var problem = new Problem(q, k, v, scale);
        int tiles = CountTiles(offsets, problem.Time);
        using var tileMemory = new Scratch(device, (long)tiles * sizeof(QueryTile));
        using var work = new Scratch(device, device.Workers.WorkerCount * ForwardTile.WorkFloats(problem) * sizeof(float));
        FillTiles(offsets, problem.Time, (QueryTile*)tileMemory.Address);
        Simd.For(device.Workers, tiles * problem.Batch * problem.Heads, new ForwardTile
        {
            Problem = problem,
            Tiles = (QueryTile*)tileMemory.Address,
            TileCount = tiles,
            Output = output.Floats,
            LogSums = logSums is null ? null : logSums.Floats,
            Work = work.Floats,
        });
    }

    private static void Backward(
        CpuDevice device, Tensor q, Tensor k, Tensor v, float scale, SequenceOffsets? offsets, Tensor output, Tensor logSums, Tensor outputGradient)
    {
        var problem = new Problem(q, k, v, scale);
        int documents = offsets?.Count ?? 1;
        using var documentMemory = new Scratch(device, sizeof(int) * (documents + 1L));
        using var work = new Scratch(device, device.Workers.WorkerCount * BackwardDocument.WorkFloats(problem) * sizeof(float));
        var starts = (int*)documentMemory.Address;
        starts[documents] = problem.Time;
        for (int document = 0; document < documents; document++)
        {
            starts[document] = offsets?.Start(document) ?? 0;
        }

        Simd.For(device.Workers, problem.Batch * problem.KvHeads * documents, new BackwardDocument
        {
            Problem = problem,
            Starts = starts,
            Documents = documents,
            Output = output.Floats,
            OutputGradient = outputGradient.Floats,
            LogSums = logSums.Floats,
            GradQ = Gradient(q, out bool accumulateQ),
            GradK = Gradient(k, out bool accumulateK),
            GradV = Gradient(v, out bool accumulateV),
            AccumulateQ = accumulateQ,
            AccumulateK = accumulateK,
            AccumulateV = accumulateV,
            Work = work.Floats,
        });
    }

    private static float* Gradient(Tensor input, out bool accumulate)
    {
        accumulate = false;
        return input.RequiresGrad ? input.GradForWrite(out accumulate).Floats : null;
    }

    private static int CountTiles(SequenceOffsets? offsets, int time)
    {
        int count = 0;
        for (int document = 0; document < (offsets?.Count ?? 1); document++)
        {
            int length = offsets is null ? time : offsets.End(document) - offsets.Start(document);
            count += (length + Tile - 1) / Tile;
        }

        return count;
    }

    /// <summary>Lists the query tiles from the last to the first: within a document later tiles see more keys, and long work should start early.</summary>
    private static void FillTiles(SequenceOffsets? offsets, int time, QueryTile* tiles)
    {
        for (int document = (offsets?.Count ?? 1) - 1; document >= 0; document--)
        {
            int start = offsets?.Start(document) ?? 0;
            int length = offsets is null ? time : offsets.End(document) - start;
            for (int tile = ((length + Tile - 1) / Tile) - 1; tile >= 0; tile--)
            {
                *tiles++ = new QueryTile { DocumentStart = start, First = start + (tile * Tile), Count = Math.Min(Tile, length - (tile * Tile)) };
            }
        }
    }

    /// <summary>Up to <see cref="Tile"/> consecutive queries of one document.</summary>
    private struct QueryTile
    {
        public int DocumentStart;
        public int First;
        public int Count;
    }

    /// <summary>Sizes, inputs and where their rows are.</summary>
    private struct Problem
    {
        public float* Q;
        public float* K;
        public float* V;
        public int Batch;
        public int Time;
        public int Heads;
        public int KvHeads;
        public int Dim;
        public int ValueDim;
        public float Scale;

        public Problem(Tensor q, Tensor k, Tensor v, float scale)
        {
            Q = q.Floats;
            K = k.Floats;
            V = v.Floats;
            (Batch, Time) = (k.Shape[0], k.Shape[1]);
            (Heads, KvHeads, Dim, ValueDim) = (q.Shape[2], k.Shape[2], q.Shape[3], v.Shape[3]);
            Scale = scale;
        }

        /// <summary>Floats from one token to the next in q, k, v and the output.</summary>
        public readonly int QueryStride => Heads * Dim;

        public readonly int KeyStride => KvHeads * Dim;

        public readonly int ValueStride => KvHeads * ValueDim;

        public readonly int OutputStride => Heads * ValueDim;

        public readonly long QueryOffset(int batch, int token, int head) => ((((long)batch * Time) + token) * QueryStride) + ((long)head * Dim);

        public readonly long KeyOffset(int batch, int token, int kvHead) => ((((long)batch * Time) + token) * KeyStride) + ((long)kvHead * Dim);

        public readonly long ValueOffset(int batch, int token, int kvHead) => ((((long)batch * Time) + token) * ValueStride) + ((long)kvHead * ValueDim);

        public readonly long OutputOffset(int batch, int token, int head) => ((((long)batch * Time) + token) * OutputStride) + ((long)head * ValueDim);

        public readonly long LogSumOffset(int batch, int token, int head) => ((((long)batch * Heads) + head) * Time) + token;
    }

    /// <summary>destination[columns, Tile] = source[rows, columns] transposed; columns of missing rows are zero.</summary>
    private static void TransposeTile<TV>(float* source, int stride, int rows, int columns, float* destination)
        where TV : struct, IFloatVector<TV>
    {
        TileProduct.Transpose<TV>(rows, columns, source, stride, destination, Tile);
        for (int column = 0; column < columns && rows < Tile; column++)
        {
            new Span<float>(destination + (column * Tile) + rows, Tile - rows).Clear();
        }
    }

    /// <summary>destination[rows, width] = source[rows, width] at another stride: heads interleave in memory, and rows far apart share few sets of the first-level cache.</summary>
    private static void CopyTile(float* source, int stride, int rows, int width, float* destination, int destinationStride)
    {
        for (int row = 0; row < rows; row++)
        {
            new ReadOnlySpan<float>(source + ((long)row * stride), width).CopyTo(new Span<float>(destination + (row * destinationStride), width));
        }
    }

    /// <summary>
    /// scores[keys, Tile] = factor * rows[keys, width] columns[width, Tile]. With part less than Tile the tile is a diagonal one: of each part of the keys
    /// only the queries from that part on are computed; what is left out nobody reads.
    /// </summary>
    private static void Scores<TV>(int keys, int part, int width, float* rows, int rowStride, float* columns, float* scores, float factor)
        where TV : struct, IFloatVector<TV>
    {
        for (int first = 0; first < keys; first += part)
        {
            int count = Math.Min(part, keys - first);
            TileProduct.Multiply<TV>(
                count, Tile - first, width, rows + ((long)first * rowStride), rowStride, false, columns + first, Tile, scores + (first * Tile) + first, Tile, accumulate: false, factor);
        }
    }

    /// <summary>target[queries, width] (+)= factor * weights[keys, queries]^T rows[keys, width]; on a diagonal tile each part of the queries takes the keys up to its end.</summary>
    private static void OverKeys<TV>(
        int queries, int part, int keys, int width, float* weights, float* rows, int rowStride, float* target, int targetStride, bool accumulate, float factor = 1)
        where TV : struct, IFloatVector<TV>
    {
        for (int first = 0; first < queries; first += part)
        {
            int count = Math.Min(part, queries - first);
            int seen = part == Tile ? keys : first + count;
            TileProduct.Multiply<TV>(
                count, width, seen, weights + first, Tile, true, rows, rowStride, target + ((long)first * targetStride), targetStride, accumulate, factor);
        }
    }

    /// <summary>target[keys, width] += factor * weights[keys, queries] rows[queries, width]; on a diagonal tile each part of the keys takes the queries from its start on.</summary>
    private static void OverQueries<TV>(int keys, int part, int queries, int width, float* weights, float* rows, int rowStride, float* target, int targetStride, float factor)
        where TV : struct, IFloatVector<TV>
    {
        for (int first = 0; first < keys; first += part)
        {
            int count = Math.Min(part, keys - first);
            TileProduct.Multiply<TV>(
                count, width, queries - first, weights + (first * Tile) + first, Tile, false, rows + (first * rowStride), rowStride,
                target + ((long)first * targetStride), targetStride, accumulate: true, factor);
        }
    }

    /// <summary>Hides from each query of a diagonal tile the keys after it: scores[key, query] is minus infinity for query &lt; key.</summary>
    private static void HideFuture(float* scores, int keys)
    {
        for (int key = 1; key < keys; key++)
        {
            new Span<float>(scores + (key * Tile), key).Fill(float.NegativeInfinity);
        }
    }

    private static int Padded(int width) => (width + 15) & ~15;

    [MethodImpl(MethodImplOptions.AggressiveOptimization | MethodImplOptions.NoInlining)]
    private static float Dot<TV>(float* left, float* right, int count)
        where TV : struct, IFloatVector<TV>
    {
        TV sum = TV.Zero;
        int i = 0;
        for (; i + TV.Count <= count; i += TV.Count)
        {
            sum = TV.MultiplyAdd(TV.Load(left + i), TV.Load(right + i), sum);
        }

        if (i < count)
        {
            sum = TV.MultiplyAdd(TV.LoadPartial(left + i, count - i), TV.LoadPartial(right + i, count - i), sum);
        }

        return sum.Sum();
    }
}
