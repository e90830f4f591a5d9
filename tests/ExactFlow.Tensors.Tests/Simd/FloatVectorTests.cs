using ExactFlow.Tensors.Simd;

namespace ExactFlow.Tensors.Tests;

/// <summary>Every operation of <see cref="IFloatVector{TSelf}"/>, lane by lane against scalar arithmetic, at the level of the process.</summary>
public sealed unsafe class FloatVectorTests
{
    private static readonly float[] Numbers =
    [
        0f, -0f, 1f, -1f, 0.5f, 1.5f, 2.5f, -2.5f, 3.75f, -1e-3f, 1e20f, -1e20f, 1e-40f, float.Epsilon, float.MaxValue, float.MinValue,
        float.PositiveInfinity, float.NegativeInfinity, float.NaN, 7f, 0.70710677f, 0.7071068f, 1.4142135f, 1.1754944e-38f,
    ];

    [Fact]
    public void OperatesLaneByLane() => ExactFlow.Tensors.Simd.Simd.Run(default(Operations));

    [Fact]
    public void TouchesOnlyTheLanesAskedFor() => ExactFlow.Tensors.Simd.Simd.Run(default(Partial));

    [Fact]
    public void TransposesBlocks() => ExactFlow.Tensors.Simd.Simd.Run(default(Transposition));

    [Fact]
    public void SumsInFixedOrder() => ExactFlow.Tensors.Simd.Simd.Run(default(Reduction));

    private static void Same(float expected, float actual, string what)
        => Assert.True(BitConverter.SingleToInt32Bits(expected) == BitConverter.SingleToInt32Bits(actual) || (float.IsNaN(expected) && float.IsNaN(actual)), $"{what}: expected {expected:R}, got {actual:R}");

    private readonly struct Operations : IVectorAction
    {
        public void Run<TV>()
            where TV : struct, IFloatVector<TV>
        {
            float* mantissa = stackalloc float[16];
            float* exponent = stackalloc float[16];
            foreach (float a in Numbers)
            {
                foreach (float b in Numbers)
                {
                    Check(TV.Broadcast(a) + TV.Broadcast(b), a + b, $"{a} + {b}");
                    Check(TV.Broadcast(a) - TV.Broadcast(b), a - b, $"{a} - {b}");
                    Check(TV.Broadcast(a) * TV.Broadcast(b), a * b, $"{a} * {b}");
                    Check(TV.Broadcast(a) / TV.Broadcast(b), a / b, $"{a} / {b}");
                    Check(TV.CopySign(TV.Broadcast(a), TV.Broadcast(b)), MathF.CopySign(a, b), $"copysign {a} {b}");
                    CheckMask<TV>(TV.LessThan(TV.Broadcast(a), TV.Broadcast(b)), a < b, $"{a} < {b}");
                    CheckMask<TV>(TV.LessThanOrEqual(TV.Broadcast(a), TV.Broadcast(b)), a <= b, $"{a} <= {b}");
                    CheckMask<TV>(TV.Equal(TV.Broadcast(a), TV.Broadcast(b)), a == b, $"{a} == {b}");
                    if (!float.IsNaN(a) && !(a == 0 && b == 0))
                    {
                        Check(TV.Min(TV.Broadcast(a), TV.Broadcast(b)), float.IsNaN(b) ? b : a < b ? a : b, $"min {a} {b}");
                        Check(TV.Max(TV.Broadcast(a), TV.Broadcast(b)), float.IsNaN(b) ? b : a > b ? a : b, $"max {a} {b}");
                    }

                    if (float.IsFinite(a) && float.IsFinite(b) && float.IsFinite(a * b) && Math.Abs(a * b) > 1e-30f)
                    {
                        // Exact whichever way it is rounded: the addend is the negated rounded product or a power of two times it.
                        Check(TV.MultiplyAdd(TV.Broadcast(a), TV.Broadcast(b), TV.Zero), a * b, $"fma {a} {b}");
                        Check(TV.NegatedMultiplyAdd(TV.Broadcast(a), TV.Broadcast(b), TV.Zero), -(a * b), $"negated fma {a} {b}");
                    }
                }

                Check(-TV.Broadcast(a), -a, $"negate {a}");
                Check(TV.Abs(TV.Broadcast(a)), MathF.Abs(a), $"abs {a}");
                Check(TV.Sqrt(TV.Broadcast(a)), MathF.Sqrt(a), $"sqrt {a}");
                Check(TV.Round(TV.Broadcast(a)), MathF.Round(a), $"round {a}");
                if (float.IsFinite(a))
                {
                    foreach (int power in (int[])[-252, -150, -126, -1, 0, 1, 24, 127, 200, 252])
                    {
                        Check(TV.ScaleByPowerOfTwo(TV.Broadcast(a), TV.Broadcast(power)), (float)Math.ScaleB(a, power), $"{a} * 2^{power}");
                    }
                }

                if (a > 0 && float.IsFinite(a))
                {
                    TV.SplitExponent(TV.Broadcast(a), out TV split).Store(mantissa);
                    split.Store(exponent);
                    Assert.InRange(mantissa[0], 0.70710677f, 1.4142135f);
                    Same(a, (float)Math.ScaleB(mantissa[0], (int)exponent[0]), $"split {a}");
                }
            }
        }

        private static void Check<TV>(TV actual, float expected, string what)
            where TV : struct, IFloatVector<TV>
        {
            float* lanes = stackalloc float[16];
            actual.Store(lanes);
            for (int i = 0; i < TV.Count; i++)
            {
                Same(expected, lanes[i], what);
            }
        }

        private static void CheckMask<TV>(TV mask, bool expected, string what)
            where TV : struct, IFloatVector<TV>
        {
            Check(TV.Select(mask, TV.Broadcast(1), TV.Broadcast(2)), expected ? 1 : 2, what);
            Check(mask & TV.Broadcast(3), expected ? 3 : 0, what);
            Check((mask & TV.Broadcast(3)) | TV.Zero, expected ? 3 : 0, what);
        }
    }

    private readonly struct Partial : IVectorAction
    {
        public void Run<TV>()
            where TV : struct, IFloatVector<TV>
        {
            float* source = stackalloc float[16];
            float* target = stackalloc float[17];
            for (int count = 0; count <= TV.Count; count++)
            {
                for (int i = 0; i < 16; i++)
                {
                    source[i] = i < count ? i + 1 : float.NaN;
                    target[i] = -1;
                }

                TV loaded = TV.LoadPartial(source, count);
                loaded.Store(target);
                for (int i = 0; i < TV.Count; i++)
                {
                    Assert.Equal(i < count ? i + 1 : 0, target[i]);
                    target[i] = -1;
                }

                loaded.StorePartial(target, count);
                for (int i = 0; i < 16; i++)
                {
                    Assert.Equal(i < count ? i + 1 : -1, target[i]);
                }
            }
        }
    }

    private readonly struct Transposition : IVectorAction
    {
        public void Run<TV>()
            where TV : struct, IFloatVector<TV>
        {
            const int Stride = 19;
            var source = new float[16 * Stride];
            var target = new float[16 * Stride];
            for (int rows = 1; rows <= TV.Count; rows++)
            {
                for (int i = 0; i < source.Length; i++)
                {
                    source[i] = i / Stride < rows && i % Stride < TV.Count ? i : float.NaN;
                }

                fixed (float* from = source, to = target)
                {
                    TV.TransposeBlock(from, Stride, rows, to, Stride);
                }

                for (int i = 0; i < TV.Count; i++)
                {
                    for (int j = 0; j < TV.Count; j++)
                    {
                        Assert.Equal(i < rows ? (i * Stride) + j : 0, target[(j * Stride) + i]);
                    }
                }
            }
        }
    }

    private readonly struct Reduction : IVectorAction
    {
        public void Run<TV>()
            where TV : struct, IFloatVector<TV>
        {
            float* values = stackalloc float[16];
            for (int i = 0; i < TV.Count; i++)
            {
                values[i] = 1 / (i + 1.1f);
            }

            TV vector = TV.Load(values);
            Assert.Equal(values[0], vector.Largest());
            for (int half = TV.Count / 2; half > 0; half /= 2)
            {
                for (int i = 0; i < half; i++)
                {
                    values[i] += values[i + half];
                }
            }

            Same(values[0], vector.Sum(), "sum");
        }
    }
}
