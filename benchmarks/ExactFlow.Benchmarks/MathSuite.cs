using System.Runtime.CompilerServices;
using ExactFlow.Tensors;
using ExactFlow.Tensors.Randomness;
using ExactFlow.Tensors.Simd;
using ExactFlow.Training.Benchmarks;

namespace ExactFlow.Benchmarks;

/// <summary>Elementwise functions over an array in the second-level cache, one thread: ours against a loop over the framework's scalar ones.</summary>
public static unsafe class MathSuite
{
    private const int Count = 64 * 1024;

    private interface IScalar
    {
        static abstract float Apply(float x);
    }

    /// <summary>Runs the suite.</summary>
    public static void Run(BenchmarkRun run)
    {
        using var device = new CpuDevice(1);
        using Tensor x = device.Persistent([Count]);
        new Philox(1, 1).FillUniform(x.Span<float>(), 0.01, 4);
        using Tensor y = device.Persistent([Count]);
        Compare<ExpOf, ScalarExp>(run, "exp", device, x, y);
        Compare<Expm1Of, ScalarExpm1>(run, "expm1", device, x, y);
        Compare<LogOf, ScalarLog>(run, "log", device, x, y);
        Compare<Log1pOf, ScalarLog1p>(run, "log1p", device, x, y);
        Compare<SigmoidOf, ScalarSigmoid>(run, "sigmoid", device, x, y);
        Compare<TanhOf, ScalarTanh>(run, "tanh", device, x, y);
        Compare<SoftplusOf, ScalarSoftplus>(run, "softplus", device, x, y);
        Compare<SiluOf, ScalarSilu>(run, "silu", device, x, y);
        run.Compare("erf", Count * 1e-9, "Gvalue/s", new Contender("ExactFlow", () => ElementwiseLoop.Run(device.Workers, x.Floats, y.Floats, Count, default(ErfOf))));
    }

    private static void Compare<TVector, TScalar>(BenchmarkRun run, string name, CpuDevice device, Tensor x, Tensor y)
        where TVector : struct, IUnaryOperator
        where TScalar : struct, IScalar
        => run.Compare(
            name,
            Count * 1e-9,
            "Gvalue/s",
            new Contender("MathF", () => Scalar<TScalar>(x.Floats, y.Floats)),
            new Contender("ExactFlow", () => ElementwiseLoop.Run(device.Workers, x.Floats, y.Floats, Count, default(TVector))));

    private static void Scalar<TScalar>(float* x, float* y)
        where TScalar : struct, IScalar
    {
        for (int i = 0; i < Count; i++)
        {
            y[i] = TScalar.Apply(x[i]);
        }
    }

    private readonly struct ExpOf : IUnaryOperator
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public TV Apply<TV>(TV x)
            where TV : struct, IFloatVector<TV>
            => SimdMath.Exp(x);
    }

    private readonly struct Expm1Of : IUnaryOperator
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public TV Apply<TV>(TV x)
            where TV : struct, IFloatVector<TV>
            => SimdMath.Expm1(x);
    }

    private readonly struct LogOf : IUnaryOperator
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public TV Apply<TV>(TV x)
            where TV : struct, IFloatVector<TV>
            => SimdMath.Log(x);
    }

    private readonly struct Log1pOf : IUnaryOperator
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public TV Apply<TV>(TV x)
            where TV : struct, IFloatVector<TV>
            => SimdMath.Log1p(x);
    }

    private readonly struct SigmoidOf : IUnaryOperator
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public TV Apply<TV>(TV x)
            where TV : struct, IFloatVector<TV>
            => SimdMath.Sigmoid(x);
    }

    private readonly struct TanhOf : IUnaryOperator
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public TV Apply<TV>(TV x)
            where TV : struct, IFloatVector<TV>
            => SimdMath.Tanh(x);
    }

    private readonly struct SoftplusOf : IUnaryOperator
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public TV Apply<TV>(TV x)
            where TV : struct, IFloatVector<TV>
            => SimdMath.Softplus(x);
    }

    private readonly struct SiluOf : IUnaryOperator
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public TV Apply<TV>(TV x)
            where TV : struct, IFloatVector<TV>
            => SimdMath.Silu(x);
    }

    private readonly struct ErfOf : IUnaryOperator
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public TV Apply<TV>(TV x)
            where TV : struct, IFloatVector<TV>
            => SimdMath.Erf(x);
    }

    private readonly struct ScalarExp : IScalar
    {
        public static float Apply(float x) => MathF.Exp(x);
    }

    private readonly struct ScalarExpm1 : IScalar
    {
        public static float Apply(float x) => MathF.Exp(x) - 1;
    }

    private readonly struct ScalarLog : IScalar
    {
        public static float Apply(float x) => MathF.Log(x);
    }

    private readonly struct ScalarLog1p : IScalar
    {
        public static float Apply(float x) => MathF.Log(1 + x);
    }

    private readonly struct ScalarSigmoid : IScalar
    {
        public static float Apply(float x) => 1 / (1 + MathF.Exp(-x));
    }

    private readonly struct ScalarTanh : IScalar
    {
        public static float Apply(float x) => MathF.Tanh(x);
    }

    private readonly struct ScalarSoftplus : IScalar
    {
        public static float Apply(float x) => MathF.Max(x, 0) + MathF.Log(1 + MathF.Exp(-MathF.Abs(x)));
    }

    private readonly struct ScalarSilu : IScalar
    {
        public static float Apply(float x) => x / (1 + MathF.Exp(-x));
    }
}
