using ExactFlow.Tensors;
using ExactFlow.Tensors.Memory;
using ExactFlow.Tensors.Parallel;

namespace ExactFlow.Operators;

public static unsafe partial class SoftmaxAttention
{
    private static void Forward(CpuDevice device, Tensor q, Tensor k, Tensor v, float scale, SequenceOffsets? offsets, Tensor output, Tensor? logSums)
    {
        var problem = new Problem(q, k, v, scale);
        for (int document = 0; document < (offsets?.Count ?? 1); document++)
        {
            problem.Start = offsets?.Start(document) ?? 0;
            problem.End = offsets?.End(document) ?? problem.Time;
            device.Workers.For(problem.Batch * problem.Heads, new ForwardHead { Problem = problem, Output = output.Floats, LogSums = logSums is null ? null : logSums.Floats });
        }
    }

    private static void Backward(
        CpuDevice device, Tensor q, Tensor k, Tensor v, float scale, SequenceOffsets? offsets, Tensor output, Tensor logSums, Tensor outputGradient)
    {
        using var unwanted = new Scratch(device, Math.Max(q.ByteCount, Math.Max(k.ByteCount, v.ByteCount)));
        var body = new BackwardHead
        {
            Problem = new Problem(q, k, v, scale),
            Output = output.Floats,
            LogSums = logSums.Floats,
            OutputGradient = outputGradient.Floats,
            GradQ = Target(q, unwanted),
            GradK = Target(k, unwanted),
            GradV = Target(v, unwanted),
        };
        for (int document = 0; document < (offsets?.Count ?? 1); document++)
        {
            body.Problem.Start = offsets?.Start(document) ?? 0;
            body.Problem.End = offsets?.End(document) ?? body.Problem.Time;
            device.Workers.For(body.Problem.Batch * body.Problem.KvHeads, body);
        }
    }

    private static float* Target(Tensor input, Scratch unwanted)
    {
        if (!input.RequiresGrad)
        {
            new Span<float>(unwanted.Floats, (int)input.Count).Clear();
            return unwanted.Floats;
        }

        Tensor target = input.GradForWrite(out bool accumulate);
        if (!accumulate)
        {
            target.Zero();
        }

        return target.Floats;
    }

    private static void DecodeStep(CpuDevice device, Tensor q, Tensor keyCache, Tensor valueCache, int length, float scale, Tensor output)
        => device.Workers.For(q.Shape[0] * q.Shape[2], new DecodeHead { Problem = new Problem(q, keyCache, valueCache, scale), Length = length, Output = output.Floats });

    /// <summary>Sizes and inputs. The time of q may be 1 while k and v hold a cache.</summary>
    private struct Problem
    {
        public float* Q;
        public float* K;
        public float* V;
        public int Batch;
        public int Time;
        public int QueryTime;
        public int Heads;
        public int KvHeads;
        public int Dim;
        public int ValueDim;
        public float Scale;
        public int Start;
        public int End;

        public Problem(Tensor q, Tensor k, Tensor v, float scale)
        {
            Q = q.Floats;
            K = k.Floats;
            V = v.Floats;
            (Batch, QueryTime, Time) = (q.Shape[0], q.Shape[1], k.Shape[1]);
            (Heads, KvHeads, Dim, ValueDim) = (q.Shape[2], k.Shape[2], q.Shape[3], v.Shape[3]);
            Scale = scale;
        }

        public readonly long QueryRow(int batch, int token, int head) => (((long)batch * QueryTime) + token) * Heads + head;

        public readonly long KeyRow(int batch, int token, int kvHead) => (((long)batch * Time) + token) * KvHeads + kvHead;

        public readonly float Score(long queryRow, long keyRow)
        {
            float* query = Q + (queryRow * Dim);
            float* key = K + (keyRow * Dim);
            float sum = 0;
            for (int i = 0; i < Dim; i++)
            {
                sum += query[i] * key[i];
            }

            return Scale * sum;
        }

        /// <summary>Softmax over keys [first, last] with a running maximum; returns the logarithm of the sum of exponentials.</summary>
        public readonly float Attend(long queryRow, int batch, int kvHead, int first, int last, float* output)
        {
            float max = float.NegativeInfinity;
            double sum = 0;
            new Span<float>(output, ValueDim).Clear();
            for (int token = first; token <= last; token++)
            {
                long keyRow = KeyRow(batch, token, kvHead);
                float score = Score(queryRow, keyRow);
                float newMax = Math.Max(max, score);
                float keep = MathF.Exp(max - newMax);
                float weight = MathF.Exp(score - newMax);
                max = newMax;
                sum = (sum * keep) + weight;
                float* value = V + (keyRow * ValueDim);
                for (int i = 0; i < ValueDim; i++)
                {
                    output[i] = (output[i] * keep) + (weight * value[i]);
                }
            }

            float inverse = (float)(1 / sum);
            for (int i = 0; i < ValueDim; i++)
            {
                output[i] *= inverse;
            }

            return (float)(max + Math.Log(sum));
        }
    }

    private struct ForwardHead : IParallelBody
    {
        public Problem Problem;
        public float* Output;
        public float* LogSums;

        public readonly void Run(int index, int worker)
        {
            (int batch, int head) = Math.DivRem(index, Problem.Heads);
            int kvHead = head / (Problem.Heads / Problem.KvHeads);
            for (int token = Problem.Start; token < Problem.End; token++)
            {
                long row = Problem.QueryRow(batch, token, head);
                float logSum = Problem.Attend(row, batch, kvHead, Problem.Start, token, Output + (row * Problem.ValueDim));
                if (LogSums is not null)
                {
                    LogSums[((long)index * Problem.Time) + token] = logSum;
                }
            }
        }
    }

    private struct DecodeHead : IParallelBody
    {
        public Problem Problem;
        public int Length;
        public float* Output;

        public readonly void Run(int index, int worker)
        {
            (int batch, int head) = Math.DivRem(index, Problem.Heads);
            int kvHead = head / (Problem.Heads / Problem.KvHeads);
            long row = Problem.QueryRow(batch, 0, head);
            Problem.Attend(row, batch, kvHead, 0, Length - 1, Output + (row * Problem.ValueDim));
        }
    }

    /// <summary>All query heads of one k/v head, so that grad k and grad v have one writer.</summary>
    private struct BackwardHead : IParallelBody
    {
        public Problem Problem;
        public float* Output;
        public float* LogSums;
        public float* OutputGradient;
        public float* GradQ;
        public float* GradK;
        public float* GradV;

        public readonly void Run(int index, int worker)
        {
            (int batch, int kvHead) = Math.DivRem(index, Problem.KvHeads);
            int group = Problem.Heads / Problem.KvHeads;
            for (int head = kvHead * group; head < (kvHead + 1) * group; head++)
            {
                for (int token = Problem.Start; token < Problem.End; token++)
                {
                    Row(batch, head, kvHead, token);
                }
            }
        }

        private readonly void Row(int batch, int head, int kvHead, int token)
        {
            long row = Problem.QueryRow(batch, token, head);
            float logSum = LogSums[((((long)batch * Problem.Heads) + head) * Problem.Time) + token];
            float* gradient = OutputGradient + (row * Problem.ValueDim);
            float delta = Dot(gradient, Output + (row * Problem.ValueDim), Problem.ValueDim);
            for (int other = Problem.Start; other <= token; other++)
            {
                long keyRow = Problem.KeyRow(batch, other, kvHead);
                float weight = MathF.Exp(Problem.Score(row, keyRow) - logSum);
                float scoreGradient = Problem.Scale * weight * (Dot(gradient, Problem.V + (keyRow * Problem.ValueDim), Problem.ValueDim) - delta);
                AddScaled(GradV + (keyRow * Problem.ValueDim), weight, gradient, Problem.ValueDim);
                AddScaled(GradQ + (row * Problem.Dim), scoreGradient, Problem.K + (keyRow * Problem.Dim), Problem.Dim);
                AddScaled(GradK + (keyRow * Problem.Dim), scoreGradient, Problem.Q + (row * Problem.Dim), Problem.Dim);
            }
        }

        private static float Dot(float* left, float* right, int length)
        {
            float sum = 0;
            for (int i = 0; i < length; i++)
            {
                sum += left[i] * right[i];
            }

            return sum;
        }

        private static void AddScaled(float* target, float factor, float* source, int length)
        {
            for (int i = 0; i < length; i++)
            {
                target[i] += factor * source[i];
            }
        }
    }
}
