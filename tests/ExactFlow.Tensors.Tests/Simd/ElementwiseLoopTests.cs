using System.Runtime.CompilerServices;
using ExactFlow.Tensors.Parallel;
using ExactFlow.Tensors.Simd;

namespace ExactFlow.Tensors.Tests;

/// <summary>The loop over elements: every remainder, every operand count, nothing written beyond the end.</summary>
public sealed unsafe class ElementwiseLoopTests
{
    public static TheoryData<int> Counts => [0, 1, 3, 7, 15, 16, 17, 31, 32, 33, 63, 65, 100, 16384, 16385, 50001];

    [Theory]
    [MemberData(nameof(Counts))]
    public void AppliesToEveryElementAndNoOther(int count)
    {
        using var workers = new WorkerPool(3);
        float[] a = Sequence(count, 1);
        float[] b = Sequence(count, 2);
        float[] c = Sequence(count, 3);
        float[] unary = Sequence(count, -1);
        float[] binary = Sequence(count, -1);
        float[] ternary = Sequence(count, -1);
        fixed (float* pa = a, pb = b, pc = c, pUnary = unary, pBinary = binary, pTernary = ternary)
        {
            ElementwiseLoop.Run(workers, pa, pUnary, count, new Scaled(0.5f));
            ElementwiseLoop.Run(workers, pa, pb, pBinary, count, default(Difference));
            ElementwiseLoop.Run(workers, pa, pb, pc, pTernary, count, default(SumMinusThree));
            ElementwiseLoop.Run(workers, pa, pa, count, new Scaled(2));
        }

        for (int i = 0; i < count; i++)
        {
            float x = i + 1;
            Assert.Equal(0.5f * x, unary[i]);
            Assert.Equal(x - (2 * x), binary[i]);
            Assert.Equal((2 * x) + (3 * x) - 3, ternary[i]);
            Assert.Equal(2 * x, a[i]);
        }

        Assert.All([a[count], unary[count], binary[count], ternary[count]], after => Assert.Equal(-77f, after));
    }

    /// <summary>1, 2, 3 ... times a factor, and a sentinel behind the end.</summary>
    private static float[] Sequence(int count, float factor)
    {
        var values = new float[count + 1];
        for (int i = 0; i < count; i++)
        {
            values[i] = factor * (i + 1);
        }

        values[count] = -77;
        return values;
    }

    private readonly struct Scaled(float factor) : IUnaryOperator
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public TV Apply<TV>(TV x)
            where TV : struct, IFloatVector<TV>
            => TV.Broadcast(factor) * x;
    }

    private readonly struct Difference : IBinaryOperator
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public TV Apply<TV>(TV a, TV b)
            where TV : struct, IFloatVector<TV>
            => a - b;
    }

    private readonly struct SumMinusThree : ITernaryOperator
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public TV Apply<TV>(TV a, TV b, TV c)
            where TV : struct, IFloatVector<TV>
            => b + c - TV.Broadcast(3);
    }
}
