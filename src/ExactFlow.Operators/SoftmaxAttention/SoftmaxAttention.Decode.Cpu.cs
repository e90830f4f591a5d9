using System.Runtime.CompilerServices;
using ExactFlow.Tensors;
using ExactFlow.Tensors.Memory;
using ExactFlow.Tensors.Parallel;
using ExactFlow.Tensors.Simd;

namespace ExactFlow.Operators;

public static unsafe partial class SoftmaxAttention
{
    /// <summary>Cache entries of one piece of work: enough to keep threads busy at batch 1, and the same however many there are.</summary>
    private const int DecodeSpan = 512;

    private static void DecodeStep(CpuDevice device, Tensor q, Tensor keyCache, Tensor valueCache, int length, float scale, Tensor output)
    {
        var problem = new Problem(q, keyCache, valueCache, scale);
        int spans = (length + DecodeSpan - 1) / DecodeSpan;
        int rows = problem.Batch * problem.Heads;
        using var memory = new Scratch(device, (long)rows * spans * (problem.ValueDim + 2) * sizeof(float));
        Simd.For(device.Workers, problem.Batch * problem.KvHeads * spans, new DecodePart { Problem = problem, Length = length, Spans = spans, Parts = memory.Floats });
        device.Workers.For(rows, new DecodeMerge { Spans = spans, ValueDim = problem.ValueDim, Parts = memory.Floats, Output = output.Floats });
    }

    /// <summary>A span of the cache of one key/value head against all query heads that read it: each yields a maximum, a sum and an unnormalised output.</summary>
    private struct DecodePart : IVectorBody
    {
        public Problem Problem;
        public int Length;
        public int Spans;
        public float* Parts;

        public readonly void Run<TV>(int index, int worker)
            where TV : struct, IFloatVector<TV>
        {
            (int row, int span) = Math.DivRem(index, Spans);
            (int batch, int kvHead) = Math.DivRem(row, Problem.KvHeads);
            int first = span * DecodeSpan;
            int count = Math.Min(DecodeSpan, Length - first);
            int group = Problem.Heads / Problem.KvHeads;
            float* scores = stackalloc float[DecodeSpan];
            for (int head = kvHead * group; head < (kvHead + 1) * group; head++)
            {
                long queryRow = ((long)batch * Problem.Heads) + head;
                float* part = Parts + (((queryRow * Spans) + span) * (Problem.ValueDim + 2));
                float max = Scores<TV>(Problem.Q + (queryRow * Problem.Dim), Problem.K + Problem.KeyOffset(batch, first, kvHead), count, scores);
                part[0] = max;
                part[1] = WeightedSum<TV>(scores, max, Problem.V + Problem.ValueOffset(batch, first, kvHead), count, part + 2);
            }
        }

        private readonly float Scores<TV>(float* query, float* keys, int count, float* scores)
            where TV : struct, IFloatVector<TV>
        {
            float max = float.NegativeInfinity;
            for (int i = 0; i < count; i++)
            {
                scores[i] = Problem.Scale * Dot<TV>(query, keys + ((long)i * Problem.KeyStride), Problem.Dim);
                max = Math.Max(max, scores[i]);
            }

            return max;
        }

        [MethodImpl(MethodImplOptions.AggressiveOptimization)]
        private readonly float WeightedSum<TV>(float* scores, float max, float* values, int count, float* output)
            where TV : struct, IFloatVector<TV>
        {
            float sum = 0;
            for (int i = 0; i < count; i++)
            {
                scores[i] = MathF.Exp(scores[i] - max);
                sum += scores[i];
            }

            for (int column = 0; column < Problem.ValueDim; column += TV.Count)
            {
                int lanes = Math.Min(TV.Count, Problem.ValueDim - column);
                TV total = TV.Zero;
                for (int i = 0; i < count; i++)
                {
                    total = TV.MultiplyAdd(TV.Broadcast(scores[i]), TV.LoadPartial(values + ((long)i * Problem.ValueStride) + column, lanes), total);
                }

                total.StorePartial(output + column, lanes);
            }

            return sum;
        }
    }

    /// <summary>Joins the spans of one query in order.</summary>
    private struct DecodeMerge : IParallelBody
    {
        public int Spans;
        public int ValueDim;
        public float* Parts;
        public float* Output;

        public readonly void Run(int index, int worker)
        {
            int stride = ValueDim + 2;
            float* parts = Parts + ((long)index * Spans * stride);
            float* output = Output + ((long)index * ValueDim);
            float max = float.NegativeInfinity;
            for (int span = 0; span < Spans; span++)
            {
                max = Math.Max(max, parts[span * stride]);
            }

            float sum = 0;
            new Span<float>(output, ValueDim).Clear();
            for (int span = 0; span < Spans; span++)
            {
                float* part = parts + (span * stride);
                float factor = MathF.Exp(part[0] - max);
                sum += factor * part[1];
                for (int i = 0; i < ValueDim; i++)
                {
                    output[i] += factor * part[i + 2];
                }
            }

            for (int i = 0; i < ValueDim; i++)
            {
                output[i] /= sum;
            }
        }
    }
}
