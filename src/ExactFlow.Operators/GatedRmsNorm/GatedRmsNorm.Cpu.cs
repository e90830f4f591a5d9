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
        using var scratch = new Scratch(device, ((long)blocks.Count + (2L * device.Workers.WorkerCount)) * dimension * sizeof(float));
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
                Rows = partial + ((long)blocks.Count * dimension),
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

        public readonly void Run<TV>(int index, int worker)
            where TV : struct, IFloatVector<TV>
        {
            for (long row = Blocks.Start(index); row < Blocks.End(index); row++)
            {
                RunRow<TV>(row * Dimension);
            }
        }

        [MethodImpl(MethodImplOptions.NoInlining | MethodImplOptions.AggressiveOptimization)]
        private readonly void RunRow<TV>(long start)
            where TV : struct, IFloatVector<TV>
        {
            int i = 0;
            for (; i + TV.Count <= Dimension; i += TV.Count)
            {
                GateStep<TV, WholeVector>(start, i, TV.Count);
            }

            if (i < Dimension)
            {
                GateStep<TV, FirstLanes>(start, i, Dimension - i);
            }

            float* normed = GateFirst ? Y + start : X + start;
            TV scale = TV.Broadcast(1 / MathF.Sqrt((RowMath.SumOfSquares<TV>(normed, Dimension) / Dimension) + Epsilon));
            for (i = 0; i + TV.Count <= Dimension; i += TV.Count)
            {
                ScaleStep<TV, WholeVector>(start, i, scale, TV.Count);
            }

            if (i < Dimension)
            {
                ScaleStep<TV, FirstLanes>(start, i, scale, Dimension - i);
            }
        }

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        private readonly void GateStep<TV, TLanes>(long start, int i, int count)
            where TV : struct, IFloatVector<TV>
            where TLanes : struct, ILanes
            => TLanes.Store(TLanes.Load<TV>(X + start + i, count) * SimdMath.Silu(TLanes.Load<TV>(Gate + start + i, count)), Y + start + i, count);

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        private readonly void ScaleStep<TV, TLanes>(long start, int i, TV scale, int count)
            where TV : struct, IFloatVector<TV>
            where TLanes : struct, ILanes
            => TLanes.Store(TLanes.Load<TV>(Y + start + i, count) * scale * TLanes.Load<TV>(Weight + i, count), Y + start + i, count);
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
        public float* Rows;

        public readonly void Run<TV>(int index, int worker)
            where TV : struct, IFloatVector<TV>
        {
            float* weightSum = WeightPartial + ((long)index * Dimension);
            float* sigmoids = Rows + (2L * worker * Dimension);
            float* gated = sigmoids + Dimension;
            new Span<float>(weightSum, Dimension).Clear();
            for (long row = Blocks.Start(index); row < Blocks.End(index); row++)
            {
                long start = row * Dimension;
                ApplyGate<TV>(start, sigmoids, gated);
                float* normed = GateFirst ? gated : X + start;
                float inverse = 1 / MathF.Sqrt((RowMath.SumOfSquares<TV>(normed, Dimension) / Dimension) + Epsilon);
                float along = RowMath.WeightedDot<TV>(Weight, OutputGradient + start, gated, Dimension) * inverse * inverse / Dimension;
                if (GateFirst)
                {
                    WriteGateFirst<TV>(start, sigmoids, gated, weightSum, inverse, along);
                }
                else
                {
                    WriteGateLast<TV>(start, sigmoids, gated, weightSum, inverse, along);
                }
            }
        }

        /// <summary>sigmoid(gate) and x SiLU(gate) of a row, kept in the first-level cache for the next pass.</summary>
        [MethodImpl(MethodImplOptions.NoInlining | MethodImplOptions.AggressiveOptimization)]
        private readonly void ApplyGate<TV>(long start, float* sigmoids, float* gated)
            where TV : struct, IFloatVector<TV>
        {
            int i = 0;
            for (; i + TV.Count <= Dimension; i += TV.Count)
            {
                GateStep<TV, WholeVector>(start, i, sigmoids, gated, TV.Count);
            }

            if (i < Dimension)
            {
                GateStep<TV, FirstLanes>(start, i, sigmoids, gated, Dimension - i);
            }
        }

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        private readonly void GateStep<TV, TLanes>(long start, int i, float* sigmoids, float* gated, int count)
            where TV : struct, IFloatVector<TV>
            where TLanes : struct, ILanes
        {
            TV gate = TLanes.Load<TV>(Gate + start + i, count);
            TV sigmoid = SimdMath.Sigmoid(gate);
            TLanes.Store(sigmoid, sigmoids + i, count);
            TLanes.Store(TLanes.Load<TV>(X + start + i, count) * (gate * sigmoid), gated + i, count);
        }

        /// <summary>What was normed is x SiLU(gate), and its gradient goes on to both.</summary>
        [MethodImpl(MethodImplOptions.NoInlining | MethodImplOptions.AggressiveOptimization)]
        private readonly void WriteGateFirst<TV>(long start, float* sigmoids, float* gated, float* weightSum, float inverse, float along)
            where TV : struct, IFloatVector<TV>
        {
            TV scale = TV.Broadcast(inverse);
            TV parallel = TV.Broadcast(along);
            int i = 0;
            for (; i + TV.Count <= Dimension; i += TV.Count)
            {
                GateFirstStep<TV, WholeVector>(start, i, sigmoids, gated, weightSum, scale, parallel, TV.Count);
            }

            if (i < Dimension)
            {
                GateFirstStep<TV, FirstLanes>(start, i, sigmoids, gated, weightSum, scale, parallel, Dimension - i);
            }
        }

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        private readonly void GateFirstStep<TV, TLanes>(long start, int i, float* sigmoids, float* gated, float* weightSum, TV scale, TV along, int count)
            where TV : struct, IFloatVector<TV>
            where TLanes : struct, ILanes
        {
            TV product = TLanes.Load<TV>(gated + i, count);
            TV dy = TLanes.Load<TV>(OutputGradient + start + i, count);
            TLanes.Store(TV.MultiplyAdd(dy * scale, product, TLanes.Load<TV>(weightSum + i, count)), weightSum + i, count);
            TV normed = scale * TV.NegatedMultiplyAdd(product, along, dy * TLanes.Load<TV>(Weight + i, count));
            TV gate = TLanes.Load<TV>(Gate + start + i, count);
            TV sigmoid = TLanes.Load<TV>(sigmoids + i, count);
            InputGradient.Write<TV, TLanes>(normed * (gate * sigmoid), start + i, count);
            GateGradient.Write<TV, TLanes>(normed * TLanes.Load<TV>(X + start + i, count) * Elementwise.SiluSlope(gate, sigmoid), start + i, count);
        }

        /// <summary>What was normed is x alone.</summary>
        [MethodImpl(MethodImplOptions.NoInlining | MethodImplOptions.AggressiveOptimization)]
        private readonly void WriteGateLast<TV>(long start, float* sigmoids, float* gated, float* weightSum, float inverse, float along)
            where TV : struct, IFloatVector<TV>
        {
            TV scale = TV.Broadcast(inverse);
            TV parallel = TV.Broadcast(along);
            int i = 0;
            for (; i + TV.Count <= Dimension; i += TV.Count)
            {
                GateLastStep<TV, WholeVector>(start, i, sigmoids, gated, weightSum, scale, parallel, TV.Count);
            }

            if (i < Dimension)
            {
                GateLastStep<TV, FirstLanes>(start, i, sigmoids, gated, weightSum, scale, parallel, Dimension - i);
            }
        }

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        private readonly void GateLastStep<TV, TLanes>(long start, int i, float* sigmoids, float* gated, float* weightSum, TV scale, TV along, int count)
            where TV : struct, IFloatVector<TV>
            where TLanes : struct, ILanes
        {
            TV dy = TLanes.Load<TV>(OutputGradient + start + i, count);
            TLanes.Store(TV.MultiplyAdd(dy * scale, TLanes.Load<TV>(gated + i, count), TLanes.Load<TV>(weightSum + i, count)), weightSum + i, count);
            TV weighted = dy * TLanes.Load<TV>(Weight + i, count);
            TV x = TLanes.Load<TV>(X + start + i, count);
            TV gate = TLanes.Load<TV>(Gate + start + i, count);
            TV sigmoid = TLanes.Load<TV>(sigmoids + i, count);
            InputGradient.Write<TV, TLanes>(scale * TV.NegatedMultiplyAdd(x, along, weighted * (gate * sigmoid)), start + i, count);
            GateGradient.Write<TV, TLanes>(weighted * scale * x * Elementwise.SiluSlope(gate, sigmoid), start + i, count);
        }
    }
}
