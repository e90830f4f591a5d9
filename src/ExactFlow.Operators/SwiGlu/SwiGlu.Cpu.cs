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

        [MethodImpl(MethodImplOptions.AggressiveOptimization)]
        public readonly void Run<TV>(int index, int worker)
            where TV : struct, IFloatVector<TV>
        {
            long end = Blocks.End(index);
            for (long i = Blocks.Start(index); i < end; i += TV.Count)
            {
                int left = (int)Math.Min(TV.Count, end - i);
                TV gate = RowMath.LoadUpTo<TV>(Gate + i, left);
                TV dy = RowMath.LoadUpTo<TV>(OutputGradient + i, left);
                TV sigmoid = SimdMath.Sigmoid(gate);
                GateGradient.Write(dy * RowMath.LoadUpTo<TV>(Up + i, left) * Elementwise.SiluSlope(gate, sigmoid), i, left);
                UpGradient.Write(dy * (gate * sigmoid), i, left);
            }
        }
    }
}
