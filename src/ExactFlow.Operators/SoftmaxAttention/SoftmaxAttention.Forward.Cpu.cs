using System.Runtime.CompilerServices;
using ExactFlow.Tensors.Simd;

namespace ExactFlow.Operators;

public static unsafe partial class SoftmaxAttention
{
    /// <summary>One tile of queries of one head: passes over the keys tile by tile with a running maximum and sum per query.</summary>
    private struct ForwardTile : IVectorBody
    {
        public Problem Problem;
        public QueryTile* Tiles;
        public int TileCount;
        public float* Output;

        /// <summary>[batch, heads, time] logarithms of the sums of exponentials, for the gradient; null when there will be none.</summary>
        public float* LogSums;
        public float* Work;

        /// <summary>Floats one worker needs: transposed queries, scores, a tile of values, the output tile, and per query the maximum, the sum and the correction.</summary>
        public static long WorkFloats(in Problem problem) => Tile * ((long)problem.Dim + Tile + (2 * Padded(problem.ValueDim)) + 3);

        public readonly void Run<TV>(int index, int worker)
            where TV : struct, IFloatVector<TV>
        {
            (int row, int tileIndex) = Math.DivRem(index, TileCount);
            (int batch, int head) = Math.DivRem(row, Problem.Heads);
            QueryTile tile = Tiles[tileIndex];
            int kvHead = head / (Problem.Heads / Problem.KvHeads);
            (int dim, int valueDim) = (Problem.Dim, Problem.ValueDim);
            int outputStride = Padded(valueDim);

            float* output = Work + (worker * WorkFloats(Problem));
            float* scores = output + (Tile * outputStride);
            float* values = scores + (Tile * Tile);
            float* queries = values + (Tile * outputStride);
            float* max = queries + (Tile * dim);
            float* sum = max + Tile;
            float* correction = sum + Tile;
            TransposeTile<TV>(Problem.Q + Problem.QueryOffset(batch, tile.First, head), Problem.QueryStride, tile.Count, dim, queries);
            new Span<float>(max, Tile).Fill(float.NegativeInfinity);
            new Span<float>(sum, Tile).Clear();

            for (int first = tile.DocumentStart; first <= tile.First; first += Tile)
            {
                bool isFirst = first == tile.DocumentStart;
                bool isDiagonal = first == tile.First;
                int keys = isDiagonal ? tile.Count : Tile;
                int part = isDiagonal ? DiagonalPart : Tile;
                Scores<TV>(keys, part, dim, Problem.K + Problem.KeyOffset(batch, first, kvHead), Problem.KeyStride, queries, scores, Problem.Scale);
                if (isDiagonal)
                {
                    HideFuture(scores, keys);
                }

                UpdateSoftmax<TV>(scores, keys, max, sum, correction);
                if (!isFirst)
                {
                    ScaleRows<TV>(output, outputStride, tile.Count, valueDim, correction);
                }

                CopyTile(Problem.V + Problem.ValueOffset(batch, first, kvHead), Problem.ValueStride, keys, valueDim, values, outputStride);
                OverKeys<TV>(tile.Count, part, keys, valueDim, scores, values, outputStride, output, outputStride, accumulate: !isFirst);
            }

            Finish<TV>(output, outputStride, tile.Count, max, sum, Output + Problem.OutputOffset(batch, tile.First, head));
            if (LogSums is not null)
            {
                new Span<float>(max, tile.Count).CopyTo(new Span<float>(LogSums + Problem.LogSumOffset(batch, tile.First, head), tile.Count));
            }
        }

        /// <summary>scores become exp(scores - maximum), with the maximum and the sum brought up to date; correction = exp(old maximum - new).</summary>
        [MethodImpl(MethodImplOptions.AggressiveOptimization | MethodImplOptions.NoInlining)]
        private static void UpdateSoftmax<TV>(float* scores, int keys, float* max, float* sum, float* correction)
            where TV : struct, IFloatVector<TV>
        {
            for (int lane = 0; lane < Tile; lane += TV.Count)
            {
                TV old = TV.Load(max + lane);
                TV largest = old;
                for (int key = 0; key < keys; key++)
                {
                    largest = TV.Max(largest, TV.Load(scores + (key * Tile) + lane));
                }

                TV total = TV.Zero;
                for (int key = 0; key < keys; key++)
                {
                    TV weight = SimdMath.Exp(TV.Load(scores + (key * Tile) + lane) - largest);
                    weight.Store(scores + (key * Tile) + lane);
                    total += weight;
                }

                TV factor = SimdMath.Exp(old - largest);
                largest.Store(max + lane);
                factor.Store(correction + lane);
                TV.MultiplyAdd(TV.Load(sum + lane), factor, total).Store(sum + lane);
            }
        }

        /// <summary>Multiplies each row by its factor; rows whose maximum stayed (most, after the first tiles) are left alone.</summary>
        [MethodImpl(MethodImplOptions.AggressiveOptimization | MethodImplOptions.NoInlining)]
        private static void ScaleRows<TV>(float* rows, int stride, int count, int width, float* factors)
            where TV : struct, IFloatVector<TV>
        {
            for (int row = 0; row < count; row++)
            {
                if (factors[row] == 1)
                {
                    continue;
                }

                TV factor = TV.Broadcast(factors[row]);
                float* values = rows + (row * stride);
                for (int i = 0; i < width; i += TV.Count)
                {
                    int lanes = Math.Min(TV.Count, width - i);
                    (TV.LoadPartial(values + i, lanes) * factor).StorePartial(values + i, lanes);
                }
            }
        }

        /// <summary>Divides by the sums, writes the output rows, and turns each maximum into the logarithm of its query's sum of exponentials.</summary>
        [MethodImpl(MethodImplOptions.AggressiveOptimization | MethodImplOptions.NoInlining)]
        private readonly void Finish<TV>(float* output, int stride, int count, float* max, float* sum, float* destination)
            where TV : struct, IFloatVector<TV>
        {
            for (int row = 0; row < count; row++)
            {
                TV factor = TV.Broadcast(1 / sum[row]);
                float* source = output + (row * stride);
                float* target = destination + ((long)row * Problem.OutputStride);
                for (int i = 0; i < Problem.ValueDim; i += TV.Count)
                {
                    int lanes = Math.Min(TV.Count, Problem.ValueDim - i);
                    (TV.LoadPartial(source + i, lanes) * factor).StorePartial(target + i, lanes);
                }

                max[row] += MathF.Log(sum[row]);
            }
        }
    }
}
