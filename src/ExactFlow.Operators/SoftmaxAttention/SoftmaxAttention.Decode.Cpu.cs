using System.Runtime.CompilerServices;
using ExactFlow.Tensors;
using ExactFlow.Tensors.Memory;
using ExactFlow.Tensors.Parallel;
using ExactFlow.Tensors.Simd;

namespace ExactFlow.Operators;

public static unsafe partial class SoftmaxAttention
{
    /// <summary>Cache entries of one piece of work: enough pieces to keep threads busy at batch 1, and the same ones however many threads there are.</summary>
    private const int DecodeSpan = 128;

    private static void DecodeStep(CpuDevice device, Tensor q, Tensor keyCache, Tensor valueCache, int length, float scale, Tensor output)
    {
        var problem = new Problem(q, keyCache, valueCache, scale);
        int spans = (length + DecodeSpan - 1) / DecodeSpan;
        using var parts = new Scratch(device, (long)problem.Batch * spans * problem.Heads * PartStride(problem.ValueDim) * sizeof(float));
        using var scores = new Scratch(device, (long)device.Workers.WorkerCount * problem.Heads * DecodeSpan * sizeof(float));
        Simd.For(device.Workers, problem.Batch * spans, new DecodePart { Problem = problem, Length = length, Spans = spans, Parts = parts.Floats, Scores = scores.Floats });
        device.Workers.For(
            problem.Batch * problem.Heads, new DecodeMerge { Heads = problem.Heads, Spans = spans, ValueDim = problem.ValueDim, Parts = parts.Floats, Output = output.Floats });
    }

    /// <summary>Floats of a part: the output, padded so that the next one starts on a cache line, then the maximum and the sum.</summary>
    private static int PartStride(int valueDim) => Padded(valueDim) + 16;

    /// <summary>
    /// A span of one row's cache against all heads of its query, so that the cache is read from front to back:
    /// per head a maximum, a sum of exponentials and an unnormalised output.
    /// </summary>
    private struct DecodePart : IVectorBody
    {
        public Problem Problem;
        public int Length;
        public int Spans;
        public float* Parts;
        public float* Scores;

        public readonly void Run<TV>(int index, int worker)
            where TV : struct, IFloatVector<TV>
        {
            (int batch, int span) = Math.DivRem(index, Spans);
            int first = span * DecodeSpan;
            int count = Math.Min(DecodeSpan, Length - first);
            float* scores = Scores + ((long)worker * Problem.Heads * DecodeSpan);
            int stride = PartStride(Problem.ValueDim);
            float* parts = Parts + ((long)index * Problem.Heads * stride);
            float* queries = Problem.Q + ((long)batch * Problem.QueryStride);
            FillScores<TV>(queries, Problem.K + Problem.KeyOffset(batch, first, 0), count, scores);
            for (int head = 0; head < Problem.Heads; head++)
            {
                float* part = parts + ((long)head * stride);
                float* scalars = part + Padded(Problem.ValueDim);
                scalars[0] = Largest(scores + (head * DecodeSpan), count);
                scalars[1] = Exponentials<TV>(scores + (head * DecodeSpan), count, scalars[0]);
                new Span<float>(part, Problem.ValueDim).Clear();
            }

            AddValues<TV>(scores, Problem.V + Problem.ValueOffset(batch, first, 0), count, parts);
        }

        /// <summary>scores[head, i] = scale * q[head] . k[i].</summary>
        [MethodImpl(MethodImplOptions.AggressiveOptimization | MethodImplOptions.NoInlining)]
        private readonly void FillScores<TV>(float* queries, float* keys, int count, float* scores)
            where TV : struct, IFloatVector<TV>
        {
            int group = Problem.Heads / Problem.KvHeads;
            for (int i = 0; i < count; i++)
            {
                for (int head = 0; head < Problem.Heads; head++)
                {
                    float* key = keys + ((long)i * Problem.KeyStride) + (head / group * Problem.Dim);
                    scores[(head * DecodeSpan) + i] = Problem.Scale * Dot<TV>(queries + (head * Problem.Dim), key, Problem.Dim);
                }
            }
        }

        private static float Largest(float* scores, int count)
        {
            float max = float.NegativeInfinity;
            for (int i = 0; i < count; i++)
            {
                max = Math.Max(max, scores[i]);
            }

            return max;
        }

        [MethodImpl(MethodImplOptions.AggressiveOptimization | MethodImplOptions.NoInlining)]
        private static float Exponentials<TV>(float* scores, int count, float max)
            where TV : struct, IFloatVector<TV>
        {
            TV sum = TV.Zero;
            for (int i = 0; i < count; i += TV.Count)
            {
                int lanes = Math.Min(TV.Count, count - i);
                SimdMath.Exp(TV.LoadPartial(scores + i, lanes) - TV.Broadcast(max)).StorePartial(scores + i, lanes);
                sum += TV.LoadPartial(scores + i, lanes);
            }

            return sum.Sum();
        }

        /// <summary>output[head] += sum_i weight[head, i] v[i], four entries at a time.</summary>
        [MethodImpl(MethodImplOptions.AggressiveOptimization | MethodImplOptions.NoInlining)]
        private readonly void AddValues<TV>(float* weights, float* values, int count, float* parts)
            where TV : struct, IFloatVector<TV>
        {
            int group = Problem.Heads / Problem.KvHeads;
            for (int i = 0; i < count; i += 4)
            {
                for (int head = 0; head < Problem.Heads; head++)
                {
                    float* output = parts + ((long)head * PartStride(Problem.ValueDim));
                    AddRows<TV>(weights + (head * DecodeSpan) + i, values + ((long)i * Problem.ValueStride) + (head / group * Problem.ValueDim), Math.Min(4, count - i), output);
                }
            }
        }

        [MethodImpl(MethodImplOptions.AggressiveOptimization | MethodImplOptions.NoInlining)]
        private readonly void AddRows<TV>(float* weights, float* rows, int count, float* output)
            where TV : struct, IFloatVector<TV>
        {
            int column = 0;
            nint stride = Problem.ValueStride;
            if (count == 4)
            {
                TV weight0 = TV.Broadcast(weights[0]);
                TV weight1 = TV.Broadcast(weights[1]);
                TV weight2 = TV.Broadcast(weights[2]);
                TV weight3 = TV.Broadcast(weights[3]);
                for (; column + TV.Count <= Problem.ValueDim; column += TV.Count)
                {
                    TV sum = TV.MultiplyAdd(weight0, TV.Load(rows + column), TV.Load(output + column));
                    sum = TV.MultiplyAdd(weight1, TV.Load(rows + stride + column), sum);
                    sum = TV.MultiplyAdd(weight2, TV.Load(rows + (2 * stride) + column), sum);
                    TV.MultiplyAdd(weight3, TV.Load(rows + (3 * stride) + column), sum).Store(output + column);
                }
            }

            for (; column < Problem.ValueDim; column += TV.Count)
            {
                int lanes = Math.Min(TV.Count, Problem.ValueDim - column);
                TV sum = TV.LoadPartial(output + column, lanes);
                for (int i = 0; i < count; i++)
                {
                    sum = TV.MultiplyAdd(TV.Broadcast(weights[i]), TV.LoadPartial(rows + (i * stride) + column, lanes), sum);
                }

                sum.StorePartial(output + column, lanes);
            }
        }
    }

    /// <summary>Joins the spans of one query head in order.</summary>
    private struct DecodeMerge : IParallelBody
    {
        public int Heads;
        public int Spans;
        public int ValueDim;
        public float* Parts;
        public float* Output;

        public readonly void Run(int index, int worker)
        {
            (int batch, int head) = Math.DivRem(index, Heads);
            float* output = Output + ((long)index * ValueDim);
            float max = float.NegativeInfinity;
            for (int span = 0; span < Spans; span++)
            {
                max = Math.Max(max, Part(batch, span, head)[Padded(ValueDim)]);
            }

            float sum = 0;
            new Span<float>(output, ValueDim).Clear();
            for (int span = 0; span < Spans; span++)
            {
                float* part = Part(batch, span, head);
                float* scalars = part + Padded(ValueDim);
                float factor = MathF.Exp(scalars[0] - max);
                sum += factor * scalars[1];
                for (int i = 0; i < ValueDim; i++)
                {
                    output[i] += factor * part[i];
                }
            }

            for (int i = 0; i < ValueDim; i++)
            {
                output[i] /= sum;
            }
        }

        private readonly float* Part(int batch, int span, int head) => Parts + (((((long)batch * Spans) + span) * Heads) + head) * PartStride(ValueDim);
    }
}
