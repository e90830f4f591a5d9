using System.Runtime.CompilerServices;
using ExactFlow.Tensors;
using ExactFlow.Tensors.Simd;

namespace ExactFlow.Operators;

public static unsafe partial class SwiGlu
{
    private static void Forward(CpuDevice device, Tensor gate, Tensor up, Tensor y)
        => ElementwiseLoop.Run(device.Workers, gate.Floats, up.Floats, y.Floats, gate.Count, default(GatedProduct));

    private static void Backward(CpuDevice device, Tensor gate, Tensor up, Tensor outputGradient, GradientTarget gateGradient, GradientTarget upGradient)
    {
        FixedBlocks blocks = FixedBlocks.ForMap(gate.Count, 1);
        Simd.For(
            device.Workers,
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

    private readonly struct GatedProduct : IBinaryOperator
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public TV Apply<TV>(TV gate, TV up)
            where TV : struct, IFloatVector<TV>
            => SimdMath.Silu(gate) * up;
    }

    private struct BackwardBody : IVectorBody
    {
        public FixedBlocks Blocks;
        public float* Gate;
        public float* Up;
        public float* OutputGradient;
        public GradientTarget GateGradient;
        public GradientTarget UpGradient;

        [MethodImpl(MethodImplOptions.NoInlining | MethodImplOptions.AggressiveOptimization)]
        public readonly void Run<TV>(int index, int worker)
            where TV : struct, IFloatVector<TV>
        {
            long end = Blocks.End(index);
            long i = Blocks.Start(index);
            for (; i + TV.Count <= end; i += TV.Count)
            {
                Step<TV, WholeVector>(i, TV.Count);
            }

            if (i < end)
            {
                Step<TV, FirstLanes>(i, (int)(end - i));
            }
        }

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        private readonly void Step<TV, TLanes>(long i, int count)
            where TV : struct, IFloatVector<TV>
            where TLanes : struct, ILanes
        {
            TV gate = TLanes.Load<TV>(Gate + i, count);
            TV dy = TLanes.Load<TV>(OutputGradient + i, count);
            TV sigmoid = SimdMath.Sigmoid(gate);
            GateGradient.Write<TV, TLanes>(dy * TLanes.Load<TV>(Up + i, count) * Elementwise.SiluSlope(gate, sigmoid), i, count);
            UpGradient.Write<TV, TLanes>(dy * (gate * sigmoid), i, count);
        }
    }
}
