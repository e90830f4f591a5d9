using System.Runtime.CompilerServices;
using ExactFlow.Tensors.MatrixProduct;
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

        /// <summary>Floats one worker needs: transposed queries and output gradients, weights, score gradients, and two numbers per query.</summary>
        public static long WorkFloats(in Problem problem) => Tile * ((long)problem.Dim + problem.ValueDim + (2 * Tile) + 2);

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
        private readonly void Queries<TV>(int batch, int head, int kvHead, QueryTile tile, float* work)
            where TV : struct, IFloatVector<TV>
        {
            (int dim, int valueDim, int count) = (Problem.Dim, Problem.ValueDim, tile.Count);
            float* weights = work;
            float* scoreGradients = weights + (Tile * Tile);
            float* queries = scoreGradients + (Tile * Tile);
            float* gradients = queries + (Tile * dim);
            float* logSums = gradients + (Tile * valueDim);
            float* means = logSums + Tile;

            float* query = Problem.Q + Problem.QueryOffset(batch, tile.First, head);
            float* outputGradient = OutputGradient + Problem.OutputOffset(batch, tile.First, head);
            TransposeTile<TV>(query, Problem.QueryStride, count, dim, queries);
            TransposeTile<TV>(outputGradient, Problem.OutputStride, count, valueDim, gradients);
            QueryScalars<TV>(batch, head, tile, logSums, means);

            for (int first = tile.DocumentStart; first <= tile.First; first += Tile)
            {
                bool isDiagonal = first == tile.First;
                int keys = isDiagonal ? count : Tile;
                float* key = Problem.K + Problem.KeyOffset(batch, first, kvHead);
                float* value = Problem.V + Problem.ValueOffset(batch, first, kvHead);
                TileProduct.Multiply<TV>(keys, Tile, dim, key, Problem.KeyStride, false, queries, Tile, weights, Tile, accumulate: false, Problem.Scale);
                TileProduct.Multiply<TV>(keys, Tile, valueDim, value, Problem.ValueStride, false, gradients, Tile, scoreGradients, Tile, accumulate: false);
                if (isDiagonal)
                {
                    MaskDiagonal(weights, keys, float.NegativeInfinity);
                }

                SoftmaxGradient<TV>(weights, scoreGradients, keys, logSums, means);
                if (GradV is not null)
                {
                    float* target = GradV + Problem.ValueOffset(batch, first, kvHead);
                    TileProduct.Multiply<TV>(keys, valueDim, count, weights, Tile, false, outputGradient, Problem.OutputStride, target, Problem.ValueStride, accumulate: true);
                }

                if (GradK is not null)
                {
                    float* target = GradK + Problem.KeyOffset(batch, first, kvHead);
                    TileProduct.Multiply<TV>(keys, dim, count, scoreGradients, Tile, false, query, Problem.QueryStride, target, Problem.KeyStride, accumulate: true, Problem.Scale);
                }

                if (GradQ is not null)
                {
                    float* target = GradQ + Problem.QueryOffset(batch, tile.First, head);
                    bool accumulate = AccumulateQ || first > tile.DocumentStart;
                    TileProduct.Multiply<TV>(count, dim, keys, scoreGradients, Tile, true, key, Problem.KeyStride, target, Problem.QueryStride, accumulate, Problem.Scale);
                }
            }
        }

        /// <summary>Per query the logarithm of its sum of exponentials and sum_s p_s dp_s, which equals do . o; zeros for missing queries.</summary>
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
        [MethodImpl(MethodImplOptions.AggressiveOptimization)]
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
