using ExactFlow.Tensors;
using ExactFlow.Tensors.Parallel;

namespace ExactFlow.Operators;

public static unsafe partial class SwiGlu
{
    private static void Forward(CpuDevice device, Tensor gate, Tensor up, Tensor y)
    {
        FixedBlocks blocks = FixedBlocks.ForMap(gate.Count, 1);
        device.Workers.For(blocks.Count, new ForwardBody { Blocks = blocks, Gate = gate.Floats, Up = up.Floats, Y = y.Floats });
    }

    private static void Backward(CpuDevice device, Tensor gate, Tensor up, Tensor outputGradient, GradientTarget gateGradient, GradientTarget upGradient)
    {
        FixedBlocks blocks = FixedBlocks.ForMap(gate.Count, 1);
        device.Workers.For(
            blocks.Count,
            new BackwardBody
            {
                Blocks = blocks,
                Gate = gate.Floats,
                Up = up.Floats,
                OutputGradient = outputGradient.Floats,
                GateGradient = gateGradient,
                UpGradient = upGradient,
            });
    }

    private struct ForwardBody : IParallelBody
    {
        public FixedBlocks Blocks;
        public float* Gate;
        public float* Up;
        public float* Y;

        public readonly void Run(int index, int worker)
        {
            for (long i = Blocks.Start(index); i < Blocks.End(index); i++)
            {
                Y[i] = Gate[i] / (1 + MathF.Exp(-Gate[i])) * Up[i];
            }
        }
    }

    private struct BackwardBody : IParallelBody
    {
        public FixedBlocks Blocks;
        public float* Gate;
        public float* Up;
        public float* OutputGradient;
        public GradientTarget GateGradient;
        public GradientTarget UpGradient;

        public readonly void Run(int index, int worker)
        {
            for (long i = Blocks.Start(index); i < Blocks.End(index); i++)
            {
                float sigmoid = 1 / (1 + MathF.Exp(-Gate[i]));
                float slope = sigmoid * (1 + (Gate[i] * (1 - sigmoid)));
                Add(GateGradient, i, OutputGradient[i] * Up[i] * slope);
                Add(UpGradient, i, OutputGradient[i] * Gate[i] * sigmoid);
            }
        }

        private static void Add(GradientTarget target, long position, float value)
        {
            if (target.IsWanted)
            {
                target.Address[position] = target.Accumulate ? target.Address[position] + value : value;
            }
        }
    }
}
