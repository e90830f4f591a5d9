using ExactFlow.Cuda;
using ExactFlow.Tensors;
using ExactFlow.Tensors.Randomness;
using ExactFlow.Testing;

namespace ExactFlow.Operators.Tests.DeltaRule;

/// <summary>
/// The GPU's delta rule against the float64 reference on the same bfloat16 numbers: relative L2 at most 5e-3 forward and 1e-2 for gradients
/// (bfloat16 has 8 bits: one rounding is 2e-3 rms of a number, and operands, T, U and the state copy are rounded once each).
/// </summary>
public sealed class DeltaRuleCudaTests
{
    private const double Forward = 5e-3, Gradient = 1e-2;

    public static TheoryData<string, int, int, int, int, int, int, double, int, int[]?> Cases
    {
        get
        {
            var cases = new TheoryData<string, int, int, int, int, int, int, double, int, int[]?>();
            foreach (DeltaRuleKind rule in DeltaRuleKind.All)
            {
                cases.Add(rule.Name, 2, 130, 2, 2, 128, 128, 1, 0, null);
                cases.Add(rule.Name, 1, 63, 1, 2, 64, 64, 1, 0, null);
            }

            foreach (string rule in (string[])["efla", "deltanet", "gated_efla", "log_rate_gated_efla", "gated_deltanet"])
            {
                cases.Add(rule, 8, 1, 8, 8, 64, 128, 1, 0, null);
                cases.Add(rule, 1, 500, 2, 2, 128, 128, 1, 3, null);
                cases.Add(rule, 1, 321, 1, 2, 64, 64, 1, 4, null);
                cases.Add(rule, 1, 200, 1, 3, 64, 64, 1, 0, [0, 1, 1, 66, 130, 200]);
                cases.Add(rule, 1, 300, 2, 2, 128, 64, 1, 2, [0, 129, 300]);
                cases.Add(rule, 2, 100, 2, 4, 128, 128, 8, 0, null);
                cases.Add(rule, 2, 100, 1, 1, 128, 192, 1e-4, 0, null);
            }

            cases.Add("efla", 1, 100, 1, 1, 64, 64, 60, 0, null);
            cases.Add("efla", 1, 100, 1, 1, 64, 64, 0, 0, null);
            return cases;
        }
    }

    [Theory]
    [MemberData(nameof(Cases))]
    public void Agrees_with_the_reference(string ruleName, int batch, int time, int keyHeads, int heads, int keyDim, int valueDim, double keyScale, int segments, int[]? offsets)
    {
        using CudaDevice device = OpenOrSkip();
        device.PoisonFreshMemory = true;
        DeltaRuleProblem problem = MakeProblem(ruleName, batch, time, keyHeads, heads, keyDim, valueDim, keyScale, offsets);
        using var cpu = new CpuDevice(2);
        DeltaRuleSolution expected = problem.Solve(cpu, DeltaRuleForm.Reference, DeltaRulePrecision.Float64);

        Result first = Run(device, problem, segments), second = Run(device, problem, segments);

        Close(expected.Output, first.Output, Forward, "output");
        Close(expected.FinalState, first.FinalState, Forward, "final state");
        Close(expected.GradQuery, first.GradQuery, Gradient, "grad q");
        Close(expected.GradKey, first.GradKey, Gradient, "grad k");
        Close(expected.GradValue, first.GradValue, Gradient, "grad v");
        Close(expected.GradBeta, first.GradBeta, Gradient, "grad beta");
        Close(expected.GradLogDecay, first.GradLogDecay, Gradient, "grad log_decay");
        Close(expected.GradInitialState, first.GradInitialState, Gradient, "grad initial state");
        Assert.Equal(first.All().SelectMany(values => values), second.All().SelectMany(values => values));
        Assert.Equal(0, device.Pool.RentedBlocks);
    }

    [Fact]
    public void Sizes_it_has_no_kernels_for_are_refused_in_one_sentence()
    {
        using CudaDevice device = OpenOrSkip();
        using var step = device.BeginStep();
        Tensor q = device.Zeros([1, 4, 1, 96], DType.BFloat16), v = device.Zeros([1, 4, 1, 64], DType.BFloat16), beta = device.Zeros([1, 4, 1]);
        var exception = Assert.Throws<InvalidInputException>(() => Operators.DeltaRule.Apply(DeltaRuleKind.Efla, q, q, v, beta, null));
        Assert.Contains("96", exception.Message, StringComparison.Ordinal);
    }

    private static CudaDevice OpenOrSkip()
    {
        Assert.SkipUnless(CudaLibrary.Driver.TryLoad(out string where), $"No NVIDIA driver library in {where}.");
        return (CudaDevice)DeviceFactory.Parse("cuda");
    }

    private static void Close(double[]? expected, float[]? actual, double tolerance, string what)
    {
        if (expected is null || actual is null)
        {
            return;
        }

        // What float32 flushes to zero (a rate so large that e^-x is below its range) is compared as zero.
        if (expected.All(value => Math.Abs(value) < 1e-30))
        {
            Assert.All(actual, value => Assert.InRange(value, -1e-30f, 1e-30f));
            return;
        }

        double error = RelativeError.L2(actual, expected);
        Assert.True(error <= tolerance, $"{what}: relative L2 error {error:e2} is above {tolerance:e0}.");
    }

    private static Result Run(CudaDevice device, DeltaRuleProblem problem, int segments)
    {
        using var step = device.BeginStep();
        Shape scalars = [problem.ValueShape[0], problem.ValueShape[1], problem.ValueShape[2]];
        Shape states = [problem.Offsets?.Count ?? problem.ValueShape[0], problem.ValueShape[2], problem.QueryShape[3], problem.ValueShape[3]];
        Tensor q = Half(problem.Query, problem.QueryShape), k = Half(problem.Key, problem.QueryShape), v = Half(problem.Value, problem.ValueShape);
        Tensor beta = Single(problem.Beta!, scalars), logDecay = Single(problem.LogDecay!, scalars), initial = Single(problem.InitialState!, states);
        var options = new DeltaRuleOptions { InitialState = initial, Offsets = problem.Offsets, WantFinalState = true };
        DeltaRuleResult result = DeltaRuleCuda.Apply(device, problem.Rule, q, k, v, beta, logDecay, options, segments);
        result.FinalState!.SeedGrad(Single(problem.GradFinalState!, states));
        float[] output = Floats(result.Output)!, finalState = Floats(result.FinalState)!;
        result.Output.Backward(Half(problem.GradOutput!, problem.ValueShape));
        return new Result(output, finalState, Floats(q.Grad), Floats(k.Grad), Floats(v.Grad), Floats(beta.Grad), Floats(logDecay.Grad), Floats(initial.Grad));

        Tensor Half(double[] values, Shape shape) => device.From<ushort>(values.Select(value => Bits((float)value)).ToArray(), shape).RequireGrad();
        Tensor Single(double[] values, Shape shape) => device.From<float>(values.Select(value => (float)value).ToArray(), shape).RequireGrad();
    }

    private static float[]? Floats(Tensor? tensor)
        => tensor is null ? null : tensor.DType == DType.BFloat16 ? [.. tensor.ToHost<ushort>().Select(bits => BitConverter.UInt32BitsToSingle((uint)bits << 16))] : tensor.ToHost<float>();

    /// <summary>Rounds to nearest even; the values here are finite.</summary>
    private static ushort Bits(float value)
    {
        uint bits = BitConverter.SingleToUInt32Bits(value);
        return (ushort)((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16);
    }

    /// <summary>Inputs that bfloat16 (q, k, v, output gradient) and float32 hold exactly, so that both sides compute with the same numbers.</summary>
    private static DeltaRuleProblem MakeProblem(string rule, int batch, int time, int keyHeads, int heads, int keyDim, int valueDim, double keyScale, int[]? offsets)
    {
        int sequences = offsets is null ? batch : offsets.Length - 1;
        int states = sequences * heads * keyDim * valueDim, scalars = batch * time * heads, keys = batch * time * keyHeads * keyDim, values = batch * time * heads * valueDim;
        double root = 1 / Math.Sqrt(keyDim);
        return new DeltaRuleProblem
        {
            Rule = DeltaRuleKind.Parse(rule),
            QueryShape = [batch, time, keyHeads, keyDim],
            ValueShape = [batch, time, heads, valueDim],
            Query = Normal("q", keys, root, half: true),
            Key = Normal("k", keys, keyScale * root, half: true),
            Value = Normal("v", values, 1, half: true),
            Beta = [.. Normal("beta", scalars, 1, half: false).Select(x => (double)(float)(1 / (1 + Math.Exp(-x))))],
            LogDecay = [.. Normal("decay", scalars, 1, half: false).Select(x => (double)(float)-Math.Log(1 + Math.Exp(x - 2)))],
            InitialState = Normal("state", states, 0.3, half: false),
            GradOutput = Normal("do", values, 1, half: true),
            GradFinalState = Normal("ds", states, 0.3, half: false),
            Offsets = offsets is null ? null : new SequenceOffsets(offsets),
        };
    }

    private static double[] Normal(string name, int count, double deviation, bool half)
    {
        var random = new Philox(11, Philox.StreamOf(name));
        var values = new double[count];
        for (int i = 0; i < count; i++)
        {
            float value = (float)(deviation * random.Normal((ulong)i));
            values[i] = half ? BitConverter.UInt32BitsToSingle((uint)Bits(value) << 16) : value;
        }

        return values;
    }

    private sealed record Result(
        float[] Output, float[] FinalState, float[]? GradQuery, float[]? GradKey, float[]? GradValue, float[]? GradBeta, float[]? GradLogDecay, float[]? GradInitialState)
    {
        public IEnumerable<float[]> All() => new[] { Output, FinalState, GradQuery, GradKey, GradValue, GradBeta, GradLogDecay, GradInitialState }.OfType<float[]>();
    }
}
