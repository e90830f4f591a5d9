using System.Runtime.CompilerServices;
using ExactFlow.Tensors;
using ExactFlow.Tensors.Memory;
using ExactFlow.Tensors.Parallel;
using ExactFlow.Tensors.Simd;

namespace ExactFlow.Operators;

public static unsafe partial class Elementwise
{
    private static void Forward(CpuDevice device, Activation activation, Tensor x, Tensor y)
    {
        WorkerPool workers = device.Workers;
        switch (activation)
        {
            case Activation.Silu:
                ElementwiseLoop.Run(workers, x.Floats, y.Floats, x.Count, default(SiluValue));
                break;
            case Activation.Gelu:
                ElementwiseLoop.Run(workers, x.Floats, y.Floats, x.Count, default(GeluValue));
                break;
            case Activation.Sigmoid:
                ElementwiseLoop.Run(workers, x.Floats, y.Floats, x.Count, default(SigmoidValue));
                break;
            default:
                ElementwiseLoop.Run(workers, x.Floats, y.Floats, x.Count, default(SoftplusValue));
                break;
        }
    }

    private static void Backward(CpuDevice device, Activation activation, Tensor x, Tensor outputGradient, Tensor gradient, bool accumulate)
    {
        switch (activation)
        {
            case Activation.Silu:
                Pairwise(device, x, outputGradient, gradient, accumulate, default(SiluGradient));
                break;
            case Activation.Gelu:
                Pairwise(device, x, outputGradient, gradient, accumulate, default(GeluGradient));
                break;
            case Activation.Sigmoid:
                Pairwise(device, x, outputGradient, gradient, accumulate, default(SigmoidGradient));
                break;
            default:
                Pairwise(device, x, outputGradient, gradient, accumulate, default(SoftplusGradient));
                break;
        }
    }

    private static void Sum(CpuDevice device, Tensor a, Tensor b, Tensor y)
        => Pairwise(device, a, b, y, accumulate: false, default(SumOfTwo));

    private static void Product(CpuDevice device, Tensor a, Tensor b, Tensor y, bool accumulate)
        => Pairwise(device, a, b, y, accumulate, default(ProductOfTwo));

    private static void Scaled(CpuDevice device, Tensor x, float factor, Tensor y, bool accumulate)
    {
        if (accumulate)
        {
            ElementwiseLoop.Run(device.Workers, x.Floats, y.Floats, y.Floats, x.Count, new MultipleAdded(factor));
        }
        else
        {
            ElementwiseLoop.Run(device.Workers, x.Floats, y.Floats, x.Count, new Multiple(factor));
        }
    }

    private static void SumWithRow(CpuDevice device, Tensor x, Tensor row, Tensor y)
    {
        int dimension = x.Shape[^1];
        int period = Periodic.Length(dimension);
        using var scratch = new Scratch(device, (long)period * sizeof(float));
        Periodic.Repeat(row.Floats, dimension, scratch.Floats);
        FixedBlocks blocks = FixedBlocks.ForMap((x.Count + period - 1) / period, period);
        Simd.For(
            device.Workers,
            blocks.Count,
            new SumWithRowBody { Blocks = blocks, Period = period, Count = x.Count, X = x.Floats, Row = scratch.Floats, Y = y.Floats });
    }

    /// <summary>y (+)= f(a, b).</summary>
    private static void Pairwise<TOperator>(CpuDevice device, Tensor a, Tensor b, Tensor y, bool accumulate, TOperator f)
        where TOperator : struct, IBinaryOperator
    {
        if (accumulate)
        {
            ElementwiseLoop.Run(device.Workers, a.Floats, b.Floats, y.Floats, y.Floats, a.Count, new Added<TOperator>(f));
        }
        else
        {
            ElementwiseLoop.Run(device.Workers, a.Floats, b.Floats, y.Floats, a.Count, f);
        }
    }

    /// <summary>The derivative of SiLU, s (1 + x (1 - s)) with s = sigmoid(x); x is bounded so that an infinite one gives 0 or 1.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static TV SiluSlope<TV>(TV x, TV sigmoid)
        where TV : struct, IFloatVector<TV>
    {
        TV one = TV.Broadcast(1);
        TV bounded = TV.Min(TV.Broadcast(128), TV.Max(TV.Broadcast(-128), x));
        return sigmoid * TV.MultiplyAdd(bounded, one - sigmoid, one);
    }

    private readonly struct SiluValue : IUnaryOperator
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public TV Apply<TV>(TV x)
            where TV : struct, IFloatVector<TV>
            => SimdMath.Silu(x);
    }

    private readonly struct SiluGradient : IBinaryOperator
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public TV Apply<TV>(TV x, TV dy)
            where TV : struct, IFloatVector<TV>
            => dy * SiluSlope(x, SimdMath.Sigmoid(x));
    }

    private readonly struct SigmoidValue : IUnaryOperator
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public TV Apply<TV>(TV x)
            where TV : struct, IFloatVector<TV>
            => SimdMath.Sigmoid(x);
    }

    private readonly struct SigmoidGradient : IBinaryOperator
    {
        /// <summary>z / (1 + z)^2 with z = exp(-|x|): s (1 - s) without the cancellation of 1 - s.</summary>
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public TV Apply<TV>(TV x, TV dy)
            where TV : struct, IFloatVector<TV>
        {
            TV z = SimdMath.Exp(-TV.Abs(x));
            TV sum = TV.Broadcast(1) + z;
            return dy * (z / (sum * sum));
        }
    }

    private readonly struct SoftplusValue : IUnaryOperator
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public TV Apply<TV>(TV x)
            where TV : struct, IFloatVector<TV>
            => SimdMath.Softplus(x);
    }

    private readonly struct SoftplusGradient : IBinaryOperator
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public TV Apply<TV>(TV x, TV dy)
            where TV : struct, IFloatVector<TV>
            => dy * SimdMath.Sigmoid(x);
    }

    private readonly struct GeluValue : IUnaryOperator
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public TV Apply<TV>(TV x)
            where TV : struct, IFloatVector<TV>
            => x * NormalCdf(x);
    }

    private readonly struct GeluGradient : IBinaryOperator
    {
        /// <summary>Phi(x) + x phi(x); beyond 15 the density is 0 in float32, and the bound keeps an infinite x from making it NaN.</summary>
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public TV Apply<TV>(TV x, TV dy)
            where TV : struct, IFloatVector<TV>
        {
            TV bounded = TV.Min(TV.Broadcast(15), TV.Max(TV.Broadcast(-15), x));
            TV density = SimdMath.Exp(bounded * bounded * TV.Broadcast(-0.5f)) * TV.Broadcast(0.3989422804f);
            return dy * TV.MultiplyAdd(bounded, density, NormalCdf(x));
        }
    }

    /// <summary>(1 + erf(x / sqrt 2)) / 2. Left of 0 it is small and 1 + erf cancels: the error is 3e-8 absolute, which x carries into GELU.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static TV NormalCdf<TV>(TV x)
        where TV : struct, IFloatVector<TV>
    {
        TV half = TV.Broadcast(0.5f);
        return TV.MultiplyAdd(half, SimdMath.Erf(x * TV.Broadcast(0.70710678f)), half);
    }

    private readonly struct SumOfTwo : IBinaryOperator
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public TV Apply<TV>(TV a, TV b)
            where TV : struct, IFloatVector<TV>
            => a + b;
    }

    private readonly struct ProductOfTwo : IBinaryOperator
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public TV Apply<TV>(TV a, TV b)
            where TV : struct, IFloatVector<TV>
            => a * b;
    }

    private readonly struct Multiple(float factor) : IUnaryOperator
    {
        private readonly float factor = factor;

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public TV Apply<TV>(TV x)
            where TV : struct, IFloatVector<TV>
            => TV.Broadcast(factor) * x;
    }

    private readonly struct MultipleAdded(float factor) : IBinaryOperator
    {
        private readonly float factor = factor;

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public TV Apply<TV>(TV x, TV sum)
            where TV : struct, IFloatVector<TV>
            => TV.MultiplyAdd(TV.Broadcast(factor), x, sum);
    }

    private readonly struct Added<TOperator>(TOperator f) : ITernaryOperator
        where TOperator : struct, IBinaryOperator
    {
        private readonly TOperator f = f;

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public TV Apply<TV>(TV a, TV b, TV sum)
            where TV : struct, IFloatVector<TV>
            => sum + f.Apply(a, b);
    }

    private struct SumWithRowBody : IVectorBody
    {
        public FixedBlocks Blocks;
        public int Period;
        public long Count;
        public float* X;
        public float* Row;
        public float* Y;

        [MethodImpl(MethodImplOptions.NoInlining | MethodImplOptions.AggressiveOptimization)]
        public readonly void Run<TV>(int index, int worker)
            where TV : struct, IFloatVector<TV>
        {
            for (long row = Blocks.Start(index); row < Blocks.End(index); row++)
            {
                float* x = X + (row * Period);
                float* y = Y + (row * Period);
                int length = (int)Math.Min(Period, Count - (row * Period));
                int i = 0;
                for (; i + TV.Count <= length; i += TV.Count)
                {
                    (TV.Load(x + i) + TV.Load(Row + i)).Store(y + i);
                }

                int rest = length - i;
                if (rest > 0)
                {
                    (TV.LoadPartial(x + i, rest) + TV.LoadPartial(Row + i, rest)).StorePartial(y + i, rest);
                }
            }
        }
    }
}
