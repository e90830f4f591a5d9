using ExactFlow.Tensors;
using ExactFlow.Tensors.Memory;
using ExactFlow.Tensors.Parallel;

namespace ExactFlow.Operators;

public static unsafe partial class GatedRmsNorm
{
    private static void Forward(CpuDevice device, Tensor x, Tensor gate, Tensor weight, GatePlacement placement, float epsilon, Tensor y)
    {
        int dimension = x.Shape[^1];
        FixedBlocks blocks = FixedBlocks.ForMap(x.Shape.RowCount(), dimension);
        device.Workers.For(
            blocks.Count,
            new ForwardBody
            {
                Blocks = blocks,
                Dimension = dimension,
                GateFirst = placement == GatePlacement.BeforeNorm,
                Epsilon = epsilon,
                X = x.Floats,
                Gate = gate.Floats,
                Weight = weight.Floats,
                Y = y.Floats,
            });
    }

    private static void Backward(
        CpuDevice device,
        Tensor x,
        Tensor gate,
        Tensor weight,
        GatePlacement placement,
        float epsilon,
        Tensor outputGradient,
        GradientTarget inputGradient,
        GradientTarget gateGradient,
        GradientTarget weightGradient)
    {
        int dimension = x.Shape[^1];
        FixedBlocks blocks = FixedBlocks.ForSums(x.Shape.RowCount(), dimension);
        using var partial = new Scratch(device, (long)blocks.Count * dimension * sizeof(float));
        device.Workers.For(
            blocks.Count,
            new BackwardBody
            {
                Blocks = blocks,
                Dimension = dimension,
                GateFirst = placement == GatePlacement.BeforeNorm,
                Epsilon = epsilon,
                X = x.Floats,
                Gate = gate.Floats,
                Weight = weight.Floats,
                OutputGradient = outputGradient.Floats,
                InputGradient = inputGradient,
                GateGradient = gateGradient,
                WeightPartial = partial.Floats,
            });
        if (weightGradient.IsWanted)
        {
            RowSums.Fold(partial.Floats, blocks.Count, dimension, weightGradient.Address, weightGradient.Accumulate);
        }
    }

    private static float Sigmoid(float x) => 1 / (1 + MathF.Exp(-x));

    private struct ForwardBody : IParallelBody
    {
        public FixedBlocks Blocks;
        public int Dimension;
        public bool GateFirst;
        public float Epsilon;
        public float* X;
        public float* Gate;
        public float* Weight;
        public float* Y;

        public readonly void Run(int index, int worker)
        {
            for (long row = Blocks.Start(index); row < Blocks.End(index); row++)
            {
                float* x = X + (row * Dimension);
                float* gate = Gate + (row * Dimension);
                float* y = Y + (row * Dimension);
                float squares = 0;
                for (int i = 0; i < Dimension; i++)
                {
                    float silu = gate[i] * Sigmoid(gate[i]);
                    float normed = GateFirst ? x[i] * silu : x[i];
                    squares += normed * normed;
                    y[i] = x[i] * silu * Weight[i];
                }

                float inverse = 1 / MathF.Sqrt((squares / Dimension) + Epsilon);
                for (int i = 0; i < Dimension; i++)
                {
                    y[i] *= inverse;
                }
            }
        }
    }

    private struct BackwardBody : IParallelBody
    {
        public FixedBlocks Blocks;
        public int Dimension;
        public bool GateFirst;
        public float Epsilon;
        public float* X;
        public float* Gate;
        public float* Weight;
        public float* OutputGradient;
        public GradientTarget InputGradient;
        public GradientTarget GateGradient;
        public float* WeightPartial;

        public readonly void Run(int index, int worker)
        {
            float* weightSum = WeightPartial + ((long)index * Dimension);
            new Span<float>(weightSum, Dimension).Clear();
            for (long row = Blocks.Start(index); row < Blocks.End(index); row++)
            {
                float* x = X + (row * Dimension);
                float* gate = Gate + (row * Dimension);
                float* dy = OutputGradient + (row * Dimension);
                float squares = 0;
                float dot = 0;
                for (int i = 0; i < Dimension; i++)
                {
                    float product = x[i] * gate[i] * Sigmoid(gate[i]);
                    float normed = GateFirst ? product : x[i];
                    squares += normed * normed;
                    dot += dy[i] * Weight[i] * product;
                }

                float inverse = 1 / MathF.Sqrt((squares / Dimension) + Epsilon);
                float along = dot * inverse * inverse / Dimension;
                for (int i = 0; i < Dimension; i++)
                {
                    float sigmoid = Sigmoid(gate[i]);
                    float silu = gate[i] * sigmoid;
                    float slope = sigmoid * (1 + (gate[i] * (1 - sigmoid)));
                    weightSum[i] += dy[i] * x[i] * silu * inverse;
                    float weighted = dy[i] * Weight[i];
                    float dNormed = inverse * (GateFirst ? weighted - (x[i] * silu * along) : (weighted * silu) - (x[i] * along));
                    Add(InputGradient, (row * Dimension) + i, GateFirst ? dNormed * silu : dNormed);
                    Add(GateGradient, (row * Dimension) + i, (GateFirst ? dNormed * x[i] : weighted * x[i] * inverse) * slope);
                }
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
