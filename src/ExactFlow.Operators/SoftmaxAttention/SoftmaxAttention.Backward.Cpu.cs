using System.Runtime.CompilerServices;
using ExactFlow.Tensors.Simd;

namespace ExactFlow.Operators;

public static unsafe partial class SoftmaxAttention
{
    /// <summary>
    /// One document of one key/value head, all query heads that read it: the gradients of its keys and values have one writer and are summed in order.
    /// Weights are recomputed from the scores and the kept logarithms of sums.
    /// </summary>
    private struct BackwardDocument : IVectorBody
    {
        public Problem Problem;
        public int* Starts;
        public int Documents;
        public float* Output;
        public float* OutputGradient;
        public float* LogSums;

        /// <summary>Gradients to write, null where none is wanted, and whether to add to them.</summary>
        public float* GradQ;
        public float* GradK;
        public float* GradV;
        public bool AccumulateQ;
        public bool AccumulateK;
        public bool AccumulateV;
        public float* Work;

        /// <summary>Floats one worker needs: queries and output gradients, both also transposed, keys, weights, score gradients, and two numbers per query.</summary>
        public static long WorkFloats(in Problem problem) => Tile * ((3L * Padded(problem.Dim)) + (2 * Padded(problem.ValueDim)) + (2 * Tile) + 2);

        public readonly void Run<TV>(int index, int worker)
            where TV : struct, IFloatVector<TV>
        {
            (int row, int document) = Math.DivRem(index, Documents);
            (int batch, int kvHead) = Math.DivRem(row, Problem.KvHeads);
            int start = Starts[document];
            int end = Starts[document + 1];
            float* work = Work + (worker * WorkFloats(Problem));
            ClearRows(GradK, AccumulateK, Problem.KeyOffset(batch, start, kvHead), Problem.KeyStride, end - start, Problem.Dim);
            ClearRows(GradV, AccumulateV, Problem.ValueOffset(batch, start, kvHead), Problem.ValueStride, end - start, Problem.ValueDim);
            int group = Problem.Heads / Problem.KvHeads;
            for (int head = kvHead * group; head < (kvHead + 1) * group; head++)
            {
                for (int first = start; first < end; first += Tile)
                {
                    var tile = new QueryTile { DocumentStart = start, First = first, Count = Math.Min(Tile, end - first) };
                    Queries<TV>(batch, head, kvHead, tile, work);
                }
            }
        }

        private static void ClearRows(float* gradient, bool accumulate, long offset, int stride, int rows, int width)
        {
            if (gradient is null || accumulate)
            {
                return;
            }

            for (int row = 0; row < rows; row++)
            {
                new Span<float>(gradient + offset + ((long)row * stride), width).Clear();
            }
        }

        /// <summary>One tile of queries against every key tile it sees.</summary>
        [MethodImpl(MethodImplOptions.NoInlining)]
        private readonly void Queries<TV>(int batch, int head, int kvHead, QueryTile tile, float* work)
            where TV : struct, IFloatVector<TV>
        {
            (int dim, int valueDim, int count) = (Problem.Dim, Problem.ValueDim, tile.Count);
            (int stride, int valueStride) = (Padded(dim), Padded(valueDim));
            float* weights = work;
            float* scoreGradients = weights + (Tile * Tile);
            float* keyTile = scoreGradients + (Tile * Tile);
            float* queries = keyTile + (Tile * stride);
            float* queriesTransposed = queries + (Tile * stride);
            float* gradients = queriesTransposed + (Tile * stride);
            float* gradientsTransposed = gradients + (Tile * valueStride);
            float* logSums = gradientsTransposed + (Tile * valueStride);
            float* means = logSums + Tile;
            CopyTile(Problem.Q + Problem.QueryOffset(batch, tile.First, head), Problem.QueryStride, count, dim, queries, stride);
            CopyTile(OutputGradient + Problem.OutputOffset(batch, tile.First, head), Problem.OutputStride, count, valueDim, gradients, valueStride);
            TransposeTile<TV>(queries, stride, count, dim, queriesTransposed);
            TransposeTile<TV>(gradients, valueStride, count, valueDim, gradientsTransposed);
            QueryScalars<TV>(batch, head, tile, logSums, means);

            for (int first = tile.DocumentStart; first <= tile.First; first += Tile)
            {
                bool isDiagonal = first == tile.First;
                int keys = isDiagonal ? count : Tile;
                int part = isDiagonal ? DiagonalPart : Tile;
                (long keyOffset, long valueOffset) = (Problem.KeyOffset(batch, first, kvHead), Problem.ValueOffset(batch, first, kvHead));
                CopyTile(Problem.K + keyOffset, Problem.KeyStride, keys, dim, keyTile, stride);
                Scores<TV>(keys, part, dim, keyTile, stride, queriesTransposed, weights, Problem.Scale);
                Scores<TV>(keys, part, valueDim, Problem.V + valueOffset, Problem.ValueStride, gradientsTransposed, scoreGradients, 1);
                if (isDiagonal)
                {
                    HideFuture(weights, keys);
                }

                SoftmaxGradient<TV>(weights, scoreGradients, keys, logSums, means);
                if (GradV is not null)
                {
                    OverQueries<TV>(keys, part, count, valueDim, weights, gradients, valueStride, GradV + valueOffset, Problem.ValueStride, 1);
                }

                if (GradK is not null)
                {
                    OverQueries<TV>(keys, part, count, dim, scoreGradients, queries, stride, GradK + keyOffset, Problem.KeyStride, Problem.Scale);
                }

                if (GradQ is not null)
                {
                    float* target = GradQ + Problem.QueryOffset(batch, tile.First, head);
                    OverKeys<TV>(count, part, keys, dim, scoreGradients, keyTile, stride, target, Problem.QueryStride, AccumulateQ || first > tile.DocumentStart, Problem.Scale);
                }
            }
        }

        /// <summary>Per query the logarithm of its sum of exponentials and sum_s p_s dp_s, which equals do . o; zeros for missing queries.</summary>
        [MethodImpl(MethodImplOptions.NoInlining)]
        private readonly void QueryScalars<TV>(int batch, int head, QueryTile tile, float* logSums, float* means)
            where TV : struct, IFloatVector<TV>
        {
            new Span<float>(logSums, 2 * Tile).Clear();
            for (int i = 0; i < tile.Count; i++)
            {
                long offset = Problem.OutputOffset(batch, tile.First + i, head);
                logSums[i] = LogSums[Problem.LogSumOffset(batch, tile.First + i, head)];
                means[i] = Dot<TV>(OutputGradient + offset, Output + offset, Problem.ValueDim);
            }
        }

        /// <summary>weights: scores become p = exp(score - logSum); gradients: dp becomes p (dp - mean).</summary>
        [MethodImpl(MethodImplOptions.AggressiveOptimization | MethodImplOptions.NoInlining)]
        private static void SoftmaxGradient<TV>(float* weights, float* gradients, int keys, float* logSums, float* means)
            where TV : struct, IFloatVector<TV>
        {
            for (int lane = 0; lane < Tile; lane += TV.Count)
            {
                TV logSum = TV.Load(logSums + lane);
                TV mean = TV.Load(means + lane);
                for (int key = 0; key < keys; key++)
                {
                    int i = (key * Tile) + lane;
                    TV weight = SimdMath.Exp(TV.Load(weights + i) - logSum);
                    weight.Store(weights + i);
                    (weight * (TV.Load(gradients + i) - mean)).Store(gradients + i);
                }
            }
        }
    }
}
