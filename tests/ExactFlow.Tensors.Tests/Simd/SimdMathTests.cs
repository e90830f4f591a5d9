using ExactFlow.Tensors.Simd;
using ExactFlow.Testing;

namespace ExactFlow.Tensors.Tests;

/// <summary>Every function of <see cref="SimdMath"/> at every width this machine has, against float64, over dense sweeps of all floats.</summary>
public sealed unsafe class SimdMathTests
{
    /// <summary>
    /// Every how many-th float is tried, by its bits; prime, so that all mantissa patterns occur. EXACTFLOW_ULP_STRIDE=1 tries all 2^32.
    /// Children repeat the sweep more coarsely.
    /// </summary>
    private static readonly uint Stride = uint.Parse(Environment.GetEnvironmentVariable("EXACTFLOW_ULP_STRIDE") ?? (SimdChild.IsChild ? "30011" : "1009"));

    public static TheoryData<string, double> Functions => new()
    {
        { "exp", 1.1 },
        { "expm1", 1.6 },
        { "log", 1.1 },
        { "log1p", 1.6 },
        { "sigmoid", 2.6 },
        { "tanh", 2.6 },
        { "softplus", 2.1 },
        { "silu", 3.1 },
        { "erf", 1.6 },
    };

    [Theory]
    [MemberData(nameof(Functions))]
    public void StaysWithinTheStatedErrorAtEveryWidth(string function, double limit)
    {
        var worst = new List<string>();
        double largest = 0;
        foreach (SimdLevel level in Enum.GetValues<SimdLevel>().Where(l => l <= ExactFlow.Tensors.Simd.Simd.Available))
        {
            (double ulps, float at) = level switch
            {
                SimdLevel.V512 => Sweep<V512>(function),
                SimdLevel.V256 => Sweep<V256>(function),
                SimdLevel.V128 => Sweep<V128>(function),
                _ => Sweep<V1>(function),
            };
            worst.Add($"{level}: {ulps:F3} ULP at {at:R}");
            largest = Math.Max(largest, ulps);
        }

        string report = $"{function}: {string.Join("; ", worst)}";
        TestContext.Current.TestOutputHelper?.WriteLine(report);
        Assert.True(largest <= limit, $"{report}, stated {limit}");
    }

    private static (double Ulps, float At) Sweep<TV>(string function)
        where TV : struct, IFloatVector<TV>
    {
        double worst = 0;
        float at = 0;
        Span<float> inputs = stackalloc float[16];
        Span<float> outputs = stackalloc float[16];
        ulong bits = 0;
        while (bits <= uint.MaxValue)
        {
            for (int lane = 0; lane < TV.Count; lane++, bits += Stride)
            {
                inputs[lane] = BitConverter.UInt32BitsToSingle((uint)Math.Min(bits, uint.MaxValue));
            }

            fixed (float* input = inputs, output = outputs)
            {
                Evaluate<TV>(function, input, output);
            }

            for (int lane = 0; lane < TV.Count; lane++)
            {
                double allowance = function == "silu" ? Math.ScaleB(1, -143) : 0;
                double ulps = Ulps(outputs[lane], Exact(function, inputs[lane]), allowance);
                if (!(ulps <= worst))
                {
                    (worst, at) = (ulps, inputs[lane]);
                }
            }
        }

        return (worst, at);
    }

    private static void Evaluate<TV>(string function, float* input, float* output)
        where TV : struct, IFloatVector<TV>
    {
        TV x = TV.Load(input);
        TV y = function switch
        {
            "exp" => SimdMath.Exp(x),
            "expm1" => SimdMath.Expm1(x),
            "log" => SimdMath.Log(x),
            "log1p" => SimdMath.Log1p(x),
            "sigmoid" => SimdMath.Sigmoid(x),
            "tanh" => SimdMath.Tanh(x),
            "softplus" => SimdMath.Softplus(x),
            "silu" => SimdMath.Silu(x),
            _ => SimdMath.Erf(x),
        };
        y.Store(output);
    }

    private static double Exact(string function, double x) => function switch
    {
        "exp" => Math.Exp(x),
        "expm1" => Expm1(x),
        "log" => Math.Log(x),
        "log1p" => Log1p(x),
        "sigmoid" => 1 / (1 + Math.Exp(-x)),
        "tanh" => Math.Abs(x) < 1e-3 ? x - (x * x * x / 3) : Math.Tanh(x),
        "softplus" => x > 0 ? x + Log1p(Math.Exp(-x)) : Log1p(Math.Exp(x)),
        "silu" => double.IsNegativeInfinity(x) ? 0 : x / (1 + Math.Exp(-x)),
        _ => Erf(x),
    };

    /// <summary>e^x - 1 in double: the series where the subtraction would cancel.</summary>
    private static double Expm1(double x)
        => Math.Abs(x) < 1e-2 ? x * (1 + (x / 2 * (1 + (x / 3 * (1 + (x / 4 * (1 + (x / 5 * (1 + (x / 6)))))))))) : Math.Exp(x) - 1;

    /// <summary>ln(1 + x) in double: the rounding of 1 + x cancels in the quotient.</summary>
    private static double Log1p(double x)
    {
        double sum = 1 + x;
        return sum == 1 || double.IsInfinity(sum) ? x : Math.Log(sum) * (x / (sum - 1));
    }

    /// <summary>The error function in double: its Taylor series within 3, the continued fraction of the complement outside.</summary>
    private static double Erf(double x)
    {
        double a = Math.Abs(x);
        if (double.IsNaN(x))
        {
            return x;
        }

        if (a < 3)
        {
            double term = x;
            double sum = x;
            for (int n = 1; Math.Abs(term) > 1e-18 * Math.Abs(sum) && n < 200; n++)
            {
                term *= -x * x / n;
                sum += term / ((2 * n) + 1);
            }

            return 2 / Math.Sqrt(Math.PI) * sum;
        }

        if (a > 6)
        {
            return Math.Sign(x);
        }

        double fraction = 0;
        for (int n = 60; n > 0; n--)
        {
            fraction = n / 2.0 / (a + fraction);
        }

        return Math.Sign(x) * (1 - (Math.Exp(-a * a) / Math.Sqrt(Math.PI) / (a + fraction)));
    }

    /// <summary>The distance in units of the last place of the float32 nearest to the exact value; infinite when one is NaN or infinite and the other is not.</summary>
    private static double Ulps(float actual, double exact, double allowance)
    {
        float rounded = (float)exact;
        if (float.IsNaN(actual) || float.IsNaN(rounded) || float.IsInfinity(actual) || float.IsInfinity(rounded))
        {
            // Just below the overflow, an error of one ULP may decide between infinity and the largest float.
            bool same = actual.Equals(rounded) || (float.IsNaN(actual) && float.IsNaN(rounded));
            return same || (Math.Abs(exact) > 3.4028233e38 && Math.Abs(exact) < 3.4028238e38 && Math.Sign(actual) == Math.Sign(exact)) ? 0 : double.PositiveInfinity;
        }

        int exponent = Math.Max(-126, Math.ILogB(Math.Abs(rounded)));
        return Math.Max(0, Math.Abs(actual - exact) - allowance) / Math.ScaleB(1, exponent - 23);
    }
}
