using System.Runtime.CompilerServices;
using ExactFlow.Tensors;
using ExactFlow.Tensors.Memory;
using ExactFlow.Tensors.Simd;

namespace ExactFlow.Operators;

public static unsafe partial class GatedRmsNorm
{
    private static void Forward(CpuDevice device, Tensor x, Tensor gate, Tensor weight, GatePlacement placement, float epsilon, Tensor y)
    {
        int dimension = x.Shape[^1];
        FixedBlocks blocks = FixedBlocks.ForMap(x.Shape.RowCount(), dimension);
        Simd.For(
            device.Workers,
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
        using var scratch = new Scratch(device, ((long)blocks.Count + device.Workers.WorkerCount) * dimension * sizeof(float));
        float* partial = scratch.Floats;
        Simd.For(
            device.Workers,
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
                WeightPartial = partial,
                Sigmoids = partial + ((long)blocks.Count * dimension),
            });
        if (weightGradient.IsWanted)
        {
            RowSums.Fold(device, partial, blocks.Count, dimension, dimension, weightGradient.Address, weightGradient.Accumulate);
        }
    }

    private struct ForwardBody : IVectorBody
    {
        public FixedBlocks Blocks;
        public int Dimension;
        public bool GateFirst;
        public float Epsilon;
        public float* X;
        public float* Gate;
        public float* Weight;
        public float* Y;

        [MethodImpl(MethodImplOptions.AggressiveOptimization)]
        public readonly void Run<TV>(int index, int worker)
            where TV : struct, IFloatVector<TV>
        {
            for (long row = Blocks.Start(index); row < Blocks.End(index); row++)
            {
                float* x = X + (row * Dimension);
                float* gate = Gate + (row * Dimension);
                float* y = Y + (row * Dimension);
                TV squares = TV.Zero;
                for (int i = 0; i < Dimension; i += TV.Count)
                {
                    int left = Dimension - i;
                    TV value = RowMath.LoadUpTo<TV>(x + i, left);
                    TV gated = value * SimdMath.Silu(RowMath.LoadUpTo<TV>(gate + i, left));
                    TV normed = GateFirst ? gated : value;
                    squares = TV.MultiplyAdd(normed, normed, squares);
                    RowMath.StoreUpTo(gated * RowMath.LoadUpTo<TV>(Weight + i, left), y + i, left);
                }

                TV scale = TV.Broadcast(1 / MathF.Sqrt((squares.Sum() / Dimension) + Epsilon));
                for (int i = 0; i < Dimension; i += TV.Count)
                {
                    int left = Dimension - i;
                    RowMath.StoreUpTo(RowMath.LoadUpTo<TV>(y + i, left) * scale, y + i, left);
                }
            }
        }
    }

    private struct BackwardBody : IVectorBody
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
        public float* Sigmoids;

        [MethodImpl(MethodImplOptions.AggressiveOptimization)]
        public readonly void Run<TV>(int index, int worker)
            where TV : struct, IFloatVector<TV>
        {
            float* weightSum = WeightPartial + ((long)index * Dimension);
            float* sigmoids = Sigmoids + ((long)worker * Dimension);
            new Span<float>(weightSum, Dimension).Clear();
            for (long row = Blocks.Start(index); row < Blocks.End(index); row++)
            {
                float* x = X + (row * Dimension);
                float* gate = Gate + (row * Dimension);
                float* dy = OutputGradient + (row * Dimension);
                TV squares = TV.Zero;
                TV dot = TV.Zero;
                for (int i = 0; i < Dimension; i += TV.Count)
                {
                    int left = Dimension - i;
                    TV value = RowMath.LoadUpTo<TV>(x + i, left);
                    TV gateValue = RowMath.LoadUpTo<TV>(gate + i, left);
                    TV sigmoid = SimdMath.Sigmoid(gateValue);
                    RowMath.StoreUpTo(sigmoid, sigmoids + i, left);
                    TV gated = value * gateValue * sigmoid;
                    TV normed = GateFirst ? gated : value;
                    squares = TV.MultiplyAdd(normed, normed, squares);
                    dot = TV.MultiplyAdd(RowMath.LoadUpTo<TV>(dy + i, left) * RowMath.LoadUpTo<TV>(Weight + i, left), gated, dot);
                }

                float inverse = 1 / MathF.Sqrt((squares.Sum() / Dimension) + Epsilon);
                TV scale = TV.Broadcast(inverse);
                TV along = TV.Broadcast(dot.Sum() * inverse * inverse / Dimension);
                for (int i = 0; i < Dimension; i += TV.Count)
                {
                    int left = Dimension - i;
                    TV value = RowMath.LoadUpTo<TV>(x + i, left);
                    TV gateValue = RowMath.LoadUpTo<TV>(gate + i, left);
                    TV sigmoid = RowMath.LoadUpTo<TV>(sigmoids + i, left);
                    TV silu = gateValue * sigmoid;
                    TV slope = Elementwise.SiluSlope(gateValue, sigmoid);
                    TV gradient = RowMath.LoadUpTo<TV>(dy + i, left);
                    TV weighted = gradient * RowMath.LoadUpTo<TV>(Weight + i, left);
                    TV gated = value * silu;
                    RowMath.StoreUpTo(TV.MultiplyAdd(gradient * scale, gated, RowMath.LoadUpTo<TV>(weightSum + i, left)), weightSum + i, left);

                    // What was normed is x SiLU(gate) or x alone, and its gradient goes on to x and, in the first case, to the gate.
                    TV normed = scale * (GateFirst ? TV.NegatedMultiplyAdd(gated, along, weighted) : TV.NegatedMultiplyAdd(value, along, weighted * silu));
                    InputGradient.Write(GateFirst ? normed * silu : normed, (row * Dimension) + i, left);
                    GateGradient.Write(value * slope * (GateFirst ? normed : weighted * scale), (row * Dimension) + i, left);
                }
            }
        }
    }
}
