using ExactFlow.Cuda;
using ExactFlow.Tensors;
using ExactFlow.Tensors.Randomness;
using ExactFlow.Testing;

namespace ExactFlow.Operators.Tests.DeltaRule;

/// <summary>
/// The delta rule on GPUs, the emulated and the real one, against the vectors of an independent implementation and against the float64 reference on the same (rounded)
/// numbers. Relative L2 at most 2e-5 in float32, with 1e-4 for gradients where little of them remains (a key of one number, made a unit one, keeps only its sign); in bfloat16 5e-3 forward and 1e-2 for gradients (it has 8 bits: one rounding is 2e-3 rms of a number, and inputs of
/// products, T, U and the states kept are rounded once each).
/// </summary>
public sealed class DeltaRuleCudaTests(CudaCases devices) : IClassFixture<CudaCases>
{
    private const double Float32 = 2e-5, Float32Gradient = 1e-4, Forward = 5e-3, Gradient = 1e-2;

    public static TheoryData<string, string> VectorsOnDevices()
    {
        var data = new TheoryData<string, string>();
        foreach (string name in ReferenceVectors.Names)
        {
            foreach (string device in CudaTestDevices.Names)
            {
                data.Add(name, device);
            }
        }

        return data;
    }

    [Theory]
    [MemberData(nameof(VectorsOnDevices))]
    public void Agrees_with_the_reference_vectors(string name, string deviceName)
    {
        CudaDevice device = devices.Device(deviceName);
        ReferenceVectors vectors = ReferenceVectors.Load(name);

        Errors.AssertClose(tensor => vectors[tensor], DeltaRuleOnDevice.Solve(device, vectors.Problem(), DType.Float32), Float32, Float32);
        DeltaRuleProblem rounded = DeltaRuleOnDevice.Round(vectors.Problem(), DType.BFloat16);
        Errors.AssertClose(Errors.Of(rounded.SolveReference()), DeltaRuleOnDevice.Solve(device, rounded, DType.BFloat16), Forward, Gradient);
        Assert.Equal(0, device.Pool.RentedBlocks);
    }

    public static TheoryData<string, string, int, int, int, int, int, int, double, int, int[]?> TensorCoreCases
    {
        get
        {
            var cases = new TheoryData<string, string, int, int, int, int, int, int, double, int, int[]?>();
            foreach (DeltaRuleKind rule in DeltaRuleKind.All)
            {
                cases.Add(CudaTestDevices.Real, rule.Name, 2, 130, 2, 2, 128, 128, 1, 0, null);
                cases.Add(CudaTestDevices.Real, rule.Name, 1, 63, 1, 2, 64, 64, 1, 0, null);
            }

            foreach (string rule in (string[])["efla", "deltanet", "gated_efla", "log_rate_gated_efla", "gated_deltanet"])
            {
                cases.Add(CudaTestDevices.Real, rule, 8, 1, 8, 8, 64, 128, 1, 0, null);
                cases.Add(CudaTestDevices.Real, rule, 1, 500, 2, 2, 128, 128, 1, 3, null);
                cases.Add(CudaTestDevices.Real, rule, 1, 321, 1, 2, 64, 64, 1, 4, null);
                cases.Add(CudaTestDevices.Real, rule, 1, 200, 1, 3, 64, 64, 1, 0, [0, 1, 1, 66, 130, 200]);
                cases.Add(CudaTestDevices.Real, rule, 1, 300, 2, 2, 128, 64, 1, 2, [0, 129, 300]);
                cases.Add(CudaTestDevices.Real, rule, 2, 100, 2, 4, 128, 128, 8, 0, null);
                cases.Add(CudaTestDevices.Real, rule, 2, 100, 1, 1, 128, 192, 1e-4, 0, null);
            }

            foreach (string device in CudaTestDevices.Names)
            {
                cases.Add(device, "efla", 2, 100, 2, 4, 128, 128, 8, 0, null);
                cases.Add(device, "efla", 1, 100, 1, 1, 64, 64, 60, 0, null);
                cases.Add(device, "efla", 1, 100, 1, 1, 64, 64, 0, 0, null);
                cases.Add(device, "gated_efla", 1, 260, 1, 2, 64, 128, 1, 1, null);
                cases.Add(device, "gated_deltanet", 1, 140, 1, 3, 128, 128, 1, 2, null);
                cases.Add(device, "efla", 1, 195, 1, 1, 64, 128, 1, 3, null);
                cases.Add(device, "efla", 1, 130, 1, 1, 128, 64, 1, 2, null);
                cases.Add(device, "log_rate_gated_efla", 1, 200, 1, 1, 64, 64, 1, 2, [0, 1, 1, 66, 200]);
            }

            return cases;
        }
    }

    /// <summary>Sizes of the tensor-core kernels in bfloat16, and of the general ones in float32; many on the real GPU, some on the emulated one.</summary>
    [Theory]
    [MemberData(nameof(TensorCoreCases))]
    public void Agrees_with_the_reference_on_tensor_cores(
        string deviceName, string rule, int batch, int time, int keyHeads, int heads, int keyDim, int valueDim, double keyScale, int segments, int[]? offsets)
    {
        CudaDevice device = devices.Device(deviceName);
        DeltaRuleProblem problem = MakeProblem(rule, batch, time, keyHeads, heads, keyDim, valueDim, keyScale, offsets);
        AssertAgrees(device, problem, DType.BFloat16, segments, slices: 1);
        if (valueDim % 128 == 0)
        {
            AssertAgrees(device, problem, DType.BFloat16, segments, slices: 2);
        }

        AssertAgrees(device, problem, DType.Float32);
    }

    public static TheoryData<string, string, int, int, int, int, int, int, double, int[]?> GeneralCases
    {
        get
        {
            var cases = new TheoryData<string, string, int, int, int, int, int, int, double, int[]?>();
            foreach (string device in CudaTestDevices.Names)
            {
                foreach (string rule in (string[])["efla", "gated_deltanet", "gated_efla", "log_rate_gated_efla", "mamba2"])
                {
                    cases.Add(device, rule, 1, 70, 1, 3, 9, 33, 1, null);
                    cases.Add(device, rule, 1, 75, 2, 2, 20, 8, 1, [0, 1, 1, 33, 65, 75]);
                    cases.Add(device, rule, 1, 40, 1, 1, 24, 65, 20, null);
                    cases.Add(device, rule, 2, 33, 1, 1, 1, 1, 1, null);
                }

                cases.Add(device, "efla", 1, 64, 1, 2, 256, 40, 1, null);
                cases.Add(device, "gated_efla", 1, 35, 1, 1, 100, 256, 1, null);
                cases.Add(device, "efla", 1, 100, 1, 1, 48, 48, 60, null);
                cases.Add(device, "deltanet", 1, 40, 1, 1, 16, 16, 1e-9, null);
                cases.Add(device, "efla", 3, 1, 1, 2, 64, 64, 1, null);
            }

            return cases;
        }
    }

    [Theory]
    [MemberData(nameof(GeneralCases))]
    public void Agrees_with_the_reference_in_any_size(
        string deviceName, string rule, int batch, int time, int keyHeads, int heads, int keyDim, int valueDim, double keyScale, int[]? offsets)
    {
        CudaDevice device = devices.Device(deviceName);
        DeltaRuleProblem problem = MakeProblem(rule, batch, time, keyHeads, heads, keyDim, valueDim, keyScale, offsets);
        AssertAgrees(device, problem, DType.Float32, segments: 1);
        AssertAgrees(device, problem, DType.BFloat16, segments: 1);
    }

    public static TheoryData<string, string, int, int, int, int, int, int, double> SmallCases
    {
        get
        {
            var cases = new TheoryData<string, string, int, int, int, int, int, int, double>();
            foreach (string device in CudaTestDevices.Names)
            {
                foreach (DeltaRuleKind rule in DeltaRuleKind.All)
                {
                    cases.Add(device, rule.Name, 2, 37, 1, 3, 16, 16, 1);
                }

                foreach (string rule in (string[])["efla", "gated_deltanet", "gated_efla", "log_rate_gated_efla", "mamba2"])
                {
                    cases.Add(device, rule, 1, 41, 5, 5, 8, 8, 1);
                    cases.Add(device, rule, 3, 8, 2, 4, 5, 13, 1);
                    cases.Add(device, rule, 1, 17, 1, 1, 2, 3, 1);
                }

                // More than eight tiles of 16 tokens.
                foreach (string rule in (string[])["efla", "cayley", "gated_deltanet", "gated_efla", "log_rate_gated_efla", "mamba2"])
                {
                    cases.Add(device, rule, 1, 150, 1, 2, 16, 16, 1);
                    cases.Add(device, rule, 2, 129, 1, 1, 9, 14, 1);
                }

                cases.Add(device, "deltanet", 1, 256, 2, 2, 16, 16, 1);
                cases.Add(device, "efla", 1, 264, 8, 32, 4, 7, 1);
                cases.Add(device, "efla", 1, 100, 1, 1, 16, 16, 60);
                cases.Add(device, "deltanet", 1, 40, 1, 1, 16, 16, 1e-9);
                cases.Add(device, "efla", 3, 1, 1, 2, 16, 16, 1);
            }

            return cases;
        }
    }

    [Theory]
    [MemberData(nameof(SmallCases))]
    public void Agrees_with_the_reference_for_small_heads(string deviceName, string rule, int batch, int time, int keyHeads, int heads, int keyDim, int valueDim, double keyScale)
    {
        CudaDevice device = devices.Device(deviceName);
        DeltaRuleProblem problem = MakeProblem(rule, batch, time, keyHeads, heads, keyDim, valueDim, keyScale, null);
        AssertAgrees(device, problem, DType.Float32);
        AssertAgrees(device, problem, DType.BFloat16);
    }

    [Theory]
    [InlineData(CudaTestDevices.Emulated, "gated_deltanet")]
    [InlineData(CudaTestDevices.Emulated, "log_rate_gated_efla")]
    [InlineData(CudaTestDevices.Real, "gated_deltanet")]
    [InlineData(CudaTestDevices.Real, "log_rate_gated_efla")]
    public void A_decay_to_nothing_is_exact_and_leaves_the_tokens_after_it_alone(string deviceName, string rule)
    {
        CudaDevice device = devices.Device(deviceName);
        DeltaRuleProblem problem = MakeProblem(rule, 1, 70, 1, 1, 16, 16, 1, null);
        foreach (int token in (int[])[3, 4, 31, 32, 50])
        {
            problem.LogDecay![token] = -1e6;
        }

        AssertAgrees(device, problem, DType.Float32);
        AssertAgrees(device, problem, DType.Float32, segments: 1);
        AssertAgrees(device, problem, DType.BFloat16);
    }

    [Theory]
    [InlineData(CudaTestDevices.Emulated)]
    [InlineData(CudaTestDevices.Real)]
    public void Steps_take_the_state_further_as_the_whole_sequence_does(string deviceName)
    {
        CudaDevice device = devices.Device(deviceName);
        foreach (DeltaRuleKind rule in DeltaRuleKind.All)
        {
            foreach ((int batch, int keyHeads, int heads, int keyDim, int valueDim) in ((int, int, int, int, int)[])[(2, 1, 2, 64, 64), (1, 2, 2, 128, 20), (1, 1, 1, 7, 5), (3, 1, 3, 256, 33), (1, 1, 1, 33, 1)])
            {
                AssertSteps(device, MakeProblem(rule.Name, batch, 6, keyHeads, heads, keyDim, valueDim, 1, null), DType.Float32, Float32);
                AssertSteps(device, MakeProblem(rule.Name, batch, 6, keyHeads, heads, keyDim, valueDim, 1, null), DType.BFloat16, Forward);
            }
        }
    }

    [Theory]
    [InlineData(CudaTestDevices.Emulated)]
    [InlineData(CudaTestDevices.Real)]
    public void What_it_cannot_do_is_refused_in_one_sentence(string deviceName)
    {
        CudaDevice device = devices.Device(deviceName);
        using var step = device.BeginStep();
        Tensor wide = device.Zeros([1, 4, 1, 257]), v = device.Zeros([1, 4, 1, 64]), beta = device.Zeros([1, 4, 1]), state = device.Zeros([1, 1, 257, 64]);
        Contains("257", () => Operators.DeltaRule.Apply(DeltaRuleKind.Efla, wide, wide, v, beta, null));
        Contains("257", () => Operators.DeltaRule.Step(DeltaRuleKind.Efla, wide, wide, v, beta, null, state));
        Tensor half = device.Zeros([1, 4, 1, 64], DType.BFloat16);
        Contains("BFloat16", () => Operators.DeltaRule.Apply(DeltaRuleKind.Efla, v, half, v, beta, null));
        Contains("beta", () => Operators.DeltaRule.Apply(DeltaRuleKind.Efla, half, half, half, device.Zeros([1, 4, 1], DType.BFloat16), null));
        Contains("float64", () => Operators.DeltaRule.Apply(DeltaRuleKind.Efla, v, v, v, beta, null, new DeltaRuleOptions { Form = DeltaRuleForm.Reference }));

        static void Contains(string part, Func<object> call) => Assert.Contains(part, Assert.Throws<InvalidInputException>(call).Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(CudaTestDevices.Emulated)]
    [InlineData(CudaTestDevices.Real)]
    public void No_tokens_leave_the_state_and_its_gradient_alone(string deviceName)
    {
        CudaDevice device = devices.Device(deviceName);
        using var step = device.BeginStep();
        Tensor q = device.Zeros([2, 0, 1, 8]).RequireGrad(), beta = device.Zeros([2, 0, 1]);
        Tensor state = DeltaRuleOnDevice.Make(device, Normal("state", 128, 1), [2, 1, 8, 8]), gradient = DeltaRuleOnDevice.Make(device, Normal("gradient", 128, 1), [2, 1, 8, 8]);
        DeltaRuleResult result = Operators.DeltaRule.Apply(DeltaRuleKind.Efla, q, q, q, beta, null, new DeltaRuleOptions { InitialState = state, WantFinalState = true });
        result.FinalState!.Backward(gradient);
        Assert.Equal(state.ToHost<float>(), result.FinalState.ToHost<float>());
        Assert.Equal(gradient.ToHost<float>(), state.Grad!.ToHost<float>());
        Assert.Equal(0, q.Grad!.Count);
    }

    /// <summary>Two runs, equal to the last bit, close to the reference.</summary>
    private static void AssertAgrees(CudaDevice device, DeltaRuleProblem problem, DType format, int segments = 0, int slices = 0)
    {
        DeltaRuleProblem rounded = DeltaRuleOnDevice.Round(problem, format);
        DeltaRuleSolution expected = rounded.SolveReference();
        DeltaRuleSolution actual = DeltaRuleOnDevice.Solve(device, rounded, format, segments, slices), again = DeltaRuleOnDevice.Solve(device, rounded, format, segments, slices);
        Func<string, double[]?> values = Errors.Of(expected);

        // What float32 flushes to zero (a rate so large that e^-x is below its range) is compared as zero.
        Func<string, double[]?> flushed = name => values(name) is { } array && array.All(value => Math.Abs(value) < 1e-30) ? new double[array.Length] : values(name);
        Errors.AssertClose(flushed, actual, format == DType.BFloat16 ? Forward : Float32, format == DType.BFloat16 ? Gradient : Float32Gradient);
        foreach (string name in (string[])["output", "final_state", "grad_q", "grad_k", "grad_v", "grad_beta", "grad_log_decay", "grad_initial_state"])
        {
            Assert.Equal(Errors.Of(actual)(name), Errors.Of(again)(name));
        }

        // The state is float32 in both formats; of what is computed only the gradients of k and v are rounded.
        Errors.AssertFinalStateClose(rounded, Errors.WholeReference(rounded), DeltaRuleOnDevice.SolveFinalState(device, rounded, format), Float32, format == DType.BFloat16 ? Gradient : Float32Gradient);
        Assert.Equal(0, device.Pool.RentedBlocks);
    }

    /// <summary>Four tokens at once, then two one by one.</summary>
    private static void AssertSteps(CudaDevice device, DeltaRuleProblem problem, DType format, double tolerance)
    {
        problem = DeltaRuleOnDevice.Round(problem, format) with { GradOutput = null, GradFinalState = null };
        DeltaRuleSolution expected = problem.SolveReference();
        using var step = device.BeginStep(recordGradients: false);
        int batch = problem.ValueShape[0], time = problem.ValueShape[1], heads = problem.ValueShape[2], keyDim = problem.QueryShape[3], valueDim = problem.ValueShape[3];
        Tensor state = DeltaRuleOnDevice.Make(device, problem.InitialState!, [batch, heads, keyDim, valueDim]);
        var output = new double[expected.Output.Length];
        foreach ((int from, int count) in ((int, int)[])[(0, 4), (4, 1), (5, 1)])
        {
            Tensor o = Operators.DeltaRule.Step(
                problem.Rule, Rows(problem.Query, problem.QueryShape, format), Rows(problem.Key, problem.QueryShape, format), Rows(problem.Value, problem.ValueShape, format),
                Rows(problem.Beta!, [batch, time, heads], DType.Float32), Rows(problem.LogDecay!, [batch, time, heads], DType.Float32), state, (float)problem.Scale!);
            Assert.Equal(format, o.DType);
            double[] values = DeltaRuleOnDevice.Read(o);
            int row = heads * valueDim;
            for (int b = 0; b < batch; b++)
            {
                Array.Copy(values, b * count * row, output, ((b * time) + from) * row, count * row);
            }

            Tensor Rows(double[] all, Shape shape, DType type)
            {
                int width = (int)(shape.Count / (batch * time));
                double[] rows = [.. Enumerable.Range(0, batch).SelectMany(b => all.Skip(((b * time) + from) * width).Take(count * width))];
                IEnumerable<int> extents = Enumerable.Range(0, shape.Rank).Select(i => i == 1 ? count : shape[i]);
                return DeltaRuleOnDevice.Make(device, rows, [.. extents], type);
            }
        }

        Assert.InRange(Errors.RelativeL2(output, expected.Output), 0, tolerance);
        Assert.InRange(Errors.RelativeL2(DeltaRuleOnDevice.Read(state), expected.FinalState), 0, Float32);
    }

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
            Query = Normal("q", keys, root),
            Key = Normal("k", keys, keyScale * root),
            Value = Normal("v", values, 1),
            Beta = [.. Normal("beta", scalars, 1).Select(x => 1 / (1 + Math.Exp(-x)))],
            LogDecay = [.. Normal("decay", scalars, 1).Select(x => -Math.Log(1 + Math.Exp(x - 2)))],
            InitialState = Normal("state", states, 0.3),
            GradOutput = Normal("do", values, 1),
            GradFinalState = Normal("ds", states, 0.3),
            Offsets = offsets is null ? null : new SequenceOffsets(offsets),
        };
    }

    private static double[] Normal(string name, int count, double deviation)
    {
        var random = new Philox(11, Philox.StreamOf(name));
        return [.. Enumerable.Range(0, count).Select(i => deviation * random.Normal((ulong)i))];
    }
}
