using ExactFlow.Tensors;
using ExactFlow.Tensors.Memory;
using ExactFlow.Tensors.Parallel;

namespace ExactFlow.Operators;

public static unsafe partial class LogDecay
{
    private static void Forward(CpuDevice device, Tensor a, Tensor aLog, Tensor dtBias, Tensor y)
    {
        int heads = a.Shape[^1];
        FixedBlocks blocks = FixedBlocks.ForMap(a.Shape.RowCount(), heads);
        device.Workers.For(
            blocks.Count,
            new ForwardBody { Blocks = blocks, Heads = heads, A = a.Floats, ALog = aLog.Floats, DtBias = dtBias.Floats, Y = y.Floats });
    }

    private static void Backward(
        CpuDevice device,
        Tensor a,
        Tensor aLog,
        Tensor dtBias,
        Tensor outputGradient,
        GradientTarget inputGradient,
        GradientTarget rateGradient,
        GradientTarget biasGradient)
    {
        int heads = a.Shape[^1];
        FixedBlocks blocks = FixedBlocks.ForSums(a.Shape.RowCount(), heads);
        using var partial = new Scratch(device, 2L * blocks.Count * heads * sizeof(float));
        device.Workers.For(
            blocks.Count,
            new BackwardBody
            {
                Blocks = blocks,
                Heads = heads,
                A = a.Floats,
                ALog = aLog.Floats,
                DtBias = dtBias.Floats,
                OutputGradient = outputGradient.Floats,
                InputGradient = inputGradient,
                Partial = partial.Floats,
            });
        if (rateGradient.IsWanted)
        {
            RowSums.Fold(partial.Floats, blocks.Count, heads, rateGradient.Address, rateGradient.Accumulate, 2L * heads);
        }

        if (biasGradient.IsWanted)
        {
            RowSums.Fold(partial.Floats + heads, blocks.Count, heads, biasGradient.Address, biasGradient.Accumulate, 2L * heads);
        }
    }

    private static float Softplus(float x) => (float)Elementwise.Softplus((double)x);

    private struct ForwardBody : IParallelBody
    {
        public FixedBlocks Blocks;
        public int Heads;
        public float* A;
        public float* ALog;
        public float* DtBias;
        public float* Y;

        public readonly void Run(int index, int worker)
        {
            for (long row = Blocks.Start(index); row < Blocks.End(index); row++)
            {
                for (int head = 0; head < Heads; head++)
                {
                    Y[(row * Heads) + head] = -MathF.Exp(ALog[head]) * Softplus(A[(row * Heads) + head] + DtBias[head]);
                }
            }
        }
    }

    private struct BackwardBody : IParallelBody
    {
        public FixedBlocks Blocks;
        public int Heads;
        public float* A;
        public float* ALog;
        public float* DtBias;
        public float* OutputGradient;
        public GradientTarget InputGradient;
        public float* Partial;

        public readonly void Run(int index, int worker)
        {
            float* rateSum = Partial + (2L * index * Heads);
            float* biasSum = rateSum + Heads;
            new Span<float>(rateSum, 2 * Heads).Clear();
            for (long row = Blocks.Start(index); row < Blocks.End(index); row++)
            {
                for (int head = 0; head < Heads; head++)
                {
                    long position = (row * Heads) + head;
                    float x = A[position] + DtBias[head];
                    float rated = OutputGradient[position] * -MathF.Exp(ALog[head]);
                    float value = rated / (1 + MathF.Exp(-x));
                    rateSum[head] += rated * Softplus(x);
                    biasSum[head] += value;
                    if (InputGradient.IsWanted)
                    {
                        float* target = InputGradient.Address + position;
                        *target = InputGradient.Accumulate ? *target + value : value;
                    }
                }
            }
        }
    }
}
