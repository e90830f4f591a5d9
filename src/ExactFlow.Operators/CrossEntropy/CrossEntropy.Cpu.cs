using ExactFlow.Tensors;
using ExactFlow.Tensors.MatrixProduct;
using ExactFlow.Tensors.Memory;
using ExactFlow.Tensors.Parallel;

namespace ExactFlow.Operators;

public static unsafe partial class CrossEntropy
{
    private const long BlockBytes = 4 << 20;

    private static int BlockRows(int tokens, int vocabulary) => (int)Math.Clamp(BlockBytes / (sizeof(float) * (long)vocabulary), 16, Math.Max(16, tokens));

    private static void Forward(
        CpuDevice device, Tensor hidden, Tensor headWeight, Tensor targets, int ignoreIndex, int counted, Tensor loss, Tensor? hiddenGradient, Tensor? weightGradient)
    {
        int tokens = checked((int)targets.Count);
        int vocabulary = headWeight.Shape[0];
        int dim = headWeight.Shape[1];
        int blockRows = BlockRows(tokens, vocabulary);
        bool wantGradients = hiddenGradient is not null || weightGradient is not null;
        using var logitMemory = new Scratch(device, sizeof(float) * (long)blockRows * vocabulary);
        using var lossMemory = new Scratch(device, sizeof(float) * (long)blockRows);
        float* logits = logitMemory.Floats;
        double sum = 0;
        for (int first = 0; first < tokens; first += blockRows)
        {
            int rows = Math.Min(blockRows, tokens - first);
            float* states = hidden.Floats + ((long)first * dim);
            MatrixMultiply.Run(device.Workers, rows, vocabulary, dim, states, dim, false, headWeight.Floats, dim, true, logits, vocabulary, accumulate: false);
            device.Workers.For(rows, new SoftmaxRow
            {
                Logits = logits,
                Vocabulary = vocabulary,
                Targets = (int*)targets.Address + first,
                IgnoreIndex = ignoreIndex,
                Losses = lossMemory.Floats,
                GradientScale = counted > 0 ? 1f / counted : 0,
                WantGradient = wantGradients,
            });
            for (int i = 0; i < rows; i++)
            {
                sum += lossMemory.Floats[i];
            }

            if (hiddenGradient is not null)
            {
                MatrixMultiply.Run(device.Workers, rows, dim, vocabulary, logits, vocabulary, false, headWeight.Floats, dim, false, hiddenGradient.Floats + ((long)first * dim), dim, accumulate: false);
            }

            if (weightGradient is not null)
            {
                MatrixMultiply.Run(device.Workers, vocabulary, dim, rows, logits, vocabulary, true, states, dim, false, weightGradient.Floats, dim, accumulate: first > 0);
            }
        }

        loss.Floats[0] = counted > 0 ? (float)(sum / counted) : 0;
    }

    private static void TokenLosses(CpuDevice device, Tensor hidden, Tensor headWeight, Tensor targets, int ignoreIndex, Tensor losses)
    {
        int tokens = checked((int)targets.Count);
        int vocabulary = headWeight.Shape[0];
        int dim = headWeight.Shape[1];
        int blockRows = BlockRows(tokens, vocabulary);
        using var logitMemory = new Scratch(device, sizeof(float) * (long)blockRows * vocabulary);
        for (int first = 0; first < tokens; first += blockRows)
        {
            int rows = Math.Min(blockRows, tokens - first);
            MatrixMultiply.Run(
                device.Workers, rows, vocabulary, dim, hidden.Floats + ((long)first * dim), dim, false, headWeight.Floats, dim, true, logitMemory.Floats, vocabulary, accumulate: false);
            device.Workers.For(rows, new SoftmaxRow
            {
                Logits = logitMemory.Floats,
                Vocabulary = vocabulary,
                Targets = (int*)targets.Address + first,
                IgnoreIndex = ignoreIndex,
                Losses = losses.Floats + first,
            });
        }
    }

    private static void Backward(CpuDevice device, Tensor hidden, Tensor headWeight, Tensor? hiddenGradient, Tensor? weightGradient, float lossGradient)
    {
        if (hiddenGradient is not null)
        {
            AddScaled(device, hiddenGradient, lossGradient, hidden.GradForWrite(out bool accumulate), accumulate);
        }

        if (weightGradient is not null)
        {
            AddScaled(device, weightGradient, lossGradient, headWeight.GradForWrite(out bool accumulate), accumulate);
        }
    }

    private static void AddScaled(CpuDevice device, Tensor source, float factor, Tensor target, bool accumulate)
    {
        int blocks = checked((int)((source.Count + ScaledBlock.Length - 1) / ScaledBlock.Length));
        device.Workers.For(blocks, new ScaledBlock { Source = source.Floats, Factor = factor, Target = target.Floats, Count = source.Count, Accumulate = accumulate });
    }

    /// <summary>One token's logits become its loss and, in place, the gradient of the mean loss with respect to them.</summary>
    private struct SoftmaxRow : IParallelBody
    {
        public float* Logits;
        public int Vocabulary;
        public int* Targets;
        public int IgnoreIndex;
        public float* Losses;
        public float GradientScale;
        public bool WantGradient;

        public readonly void Run(int index, int worker)
        {
            var row = new Span<float>(Logits + ((long)index * Vocabulary), Vocabulary);
            int target = Targets[index];
            if (target == IgnoreIndex)
            {
                Losses[index] = 0;
                row.Clear();
                return;
            }

            float max = float.NegativeInfinity;
            foreach (float value in row)
            {
                max = Math.Max(max, value);
            }

            float targetLogit = row[target] - max;
            double sum = 0;
            for (int i = 0; i < row.Length; i++)
            {
                float e = MathF.Exp(row[i] - max);
                sum += e;
                row[i] = e;
            }

            Losses[index] = (float)(Math.Log(sum) - targetLogit);
            if (WantGradient)
            {
                float factor = (float)(GradientScale / sum);
                for (int i = 0; i < row.Length; i++)
                {
                    row[i] *= factor;
                }

                row[target] -= GradientScale;
            }
        }
    }

    private struct ScaledBlock : IParallelBody
    {
        public const int Length = 1 << 14;

        public float* Source;
        public float Factor;
        public float* Target;
        public long Count;
        public bool Accumulate;

        public readonly void Run(int index, int worker)
        {
            long first = (long)index * Length;
            int length = (int)Math.Min(Length, Count - first);
            float* source = Source + first;
            float* target = Target + first;
            for (int i = 0; i < length; i++)
            {
                float value = Factor * source[i];
                target[i] = Accumulate ? target[i] + value : value;
            }
        }
    }
}
