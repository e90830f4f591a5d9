using ExactFlow.Tensors;

namespace ExactFlow.Operators.Tests.DeltaRule;

using DeltaRule = ExactFlow.Operators.DeltaRule;

/// <summary>The operator on tensors: autograd, decoding, and the sentences for inputs that do not fit.</summary>
public sealed class ApplyTests
{
    [Theory]
    [InlineData(DeltaRuleForm.Auto)]
    [InlineData(DeltaRuleForm.Recurrent)]
    [InlineData(DeltaRuleForm.Chunkwise)]
    [InlineData(DeltaRuleForm.Reference)]
    public void GradientsReachEveryInputAndAddUp(DeltaRuleForm form)
    {
        using var device = new CpuDevice(2) { PoisonFreshMemory = true };
        DeltaRuleProblem problem = Problems.Random("gated_efla", batch: 2, time: 70, keyHeads: 2, valueHeads: 4, keyDim: 8, valueDim: 12);
        DeltaRuleSolution expected = problem.Solve(device, DeltaRuleForm.Reference, DeltaRulePrecision.Float64);
        using (var step = device.BeginStep())
        {
            Tensor q = Input(device, problem.Query, problem.QueryShape);
            Tensor k = Input(device, problem.Key, problem.QueryShape);
            Tensor v = Input(device, problem.Value, problem.ValueShape);
            Tensor beta = Input(device, problem.Beta!, [2, 70, 4]);
            Tensor logDecay = Input(device, problem.LogDecay!, [2, 70, 4]);
            Tensor state = Input(device, problem.InitialState!, [2, 4, 8, 12]);
            var options = new DeltaRuleOptions { InitialState = state, WantFinalState = true, Form = form };

            // Twice from the same inputs: gradients are added, so they come out doubled.
            DeltaRuleResult first = DeltaRule.Apply(problem.Rule, q, k, v, beta, logDecay, options);
            DeltaRuleResult second = DeltaRule.Apply(problem.Rule, q, k, v, beta, logDecay, options);
            Tensor gradOutput = device.From<float>(ToFloat(problem.GradOutput!), problem.ValueShape);
            Tensor gradState = device.From<float>(ToFloat(problem.GradFinalState!), [2, 4, 8, 12]);
            first.Output.SeedGrad(gradOutput);
            first.FinalState!.SeedGrad(gradState);
            second.FinalState!.SeedGrad(gradState);
            second.Output.Backward(gradOutput);

            AssertClose(expected.Output, first.Output, 1, 2e-5);
            AssertClose(expected.FinalState, second.FinalState, 1, 2e-5);
            AssertClose(expected.GradQuery!, q.Grad!, 2, 1e-4);
            AssertClose(expected.GradKey!, k.Grad!, 2, 1e-4);
            AssertClose(expected.GradValue!, v.Grad!, 2, 1e-4);
            AssertClose(expected.GradBeta!, beta.Grad!, 2, 1e-4);
            AssertClose(expected.GradLogDecay!, logDecay.Grad!, 2, 1e-4);
            AssertClose(expected.GradInitialState!, state.Grad!, 2, 1e-4);
        }

        Assert.Equal(0, device.Pool.RentedBlocks);
    }

    [Fact]
    public void OnlyTheFinalStateMayBeUsed()
    {
        using var device = new CpuDevice(1) { PoisonFreshMemory = true };
        DeltaRuleProblem problem = Problems.Random("efla", time: 20) with { GradOutput = new double[20 * 16] };
        DeltaRuleSolution expected = problem.Solve(device, DeltaRuleForm.Reference, DeltaRulePrecision.Float64);
        using var step = device.BeginStep();
        Tensor q = device.From<float>(ToFloat(problem.Query), problem.QueryShape);
        Tensor k = Input(device, problem.Key, problem.QueryShape);
        Tensor v = device.From<float>(ToFloat(problem.Value), problem.ValueShape);
        Tensor beta = device.From<float>(ToFloat(problem.Beta!), [1, 20, 1]);
        Tensor state = device.From<float>(ToFloat(problem.InitialState!), [1, 1, 16, 16]);
        DeltaRuleResult result = DeltaRule.Apply(problem.Rule, q, k, v, beta, null, new() { InitialState = state, WantFinalState = true });
        result.FinalState!.Backward(device.From<float>(ToFloat(problem.GradFinalState!), [1, 1, 16, 16]));

        AssertClose(expected.GradKey!, k.Grad!, 1, 1e-4);
        Assert.Null(q.Grad);
    }

    [Theory]
    [InlineData("efla", 16)]
    [InlineData("gated_efla", 33)]
    [InlineData("mamba2", 64)]
    public void StepsEqualTheWholeSequence(string rule, int valueDim)
    {
        using var device = new CpuDevice(2) { PoisonFreshMemory = true };
        const int Time = 40;
        DeltaRuleProblem problem = Problems.Random(rule, batch: 1, time: Time, keyHeads: 1, valueHeads: 2, keyDim: 24, valueDim: valueDim, gradients: false);
        DeltaRuleSolution expected = problem.Solve(device, DeltaRuleForm.Reference, DeltaRulePrecision.Float64);
        using Tensor state = device.Persistent([1, 2, 24, valueDim]);
        state.CopyFrom<float>(ToFloat(problem.InitialState!));
        var outputs = new List<float>();
        for (int t = 0; t < Time; t++)
        {
            using var step = device.BeginStep(recordGradients: false);
            Tensor Token(double[] values, Shape shape) => device.From<float>(ToFloat(values).AsSpan(t * (int)shape.Count, (int)shape.Count), shape);
            Tensor output = DeltaRule.Step(
                problem.Rule, Token(problem.Query, [1, 1, 1, 24]), Token(problem.Key, [1, 1, 1, 24]), Token(problem.Value, [1, 1, 2, valueDim]),
                Token(problem.Beta!, [1, 1, 2]), Token(problem.LogDecay!, [1, 1, 2]), state);
            outputs.AddRange(output.ToHost<float>());
        }

        Assert.True(Errors.RelativeL2([.. outputs.Select(value => (double)value)], expected.Output) < 2e-5);
        AssertClose(expected.FinalState, state, 1, 2e-5);
    }

    [Fact]
    public void ASteadyStepAllocatesLittle()
    {
        using var device = new CpuDevice(2);
        DeltaRuleProblem problem = Problems.Random("gated_efla", batch: 2, time: 128, keyDim: 16, valueDim: 16);
        float[] q = ToFloat(problem.Query);
        float[] v = ToFloat(problem.Value);
        float[] beta = ToFloat(problem.Beta!);
        void Run()
        {
            using var step = device.BeginStep();
            Tensor key = device.From<float>(q, problem.QueryShape).RequireGrad();
            Tensor value = device.From<float>(v, problem.ValueShape);
            Tensor steps = device.From<float>(beta, [2, 128, 1]);
            Tensor output = DeltaRule.Apply(problem.Rule, key, key, value, steps, steps).Output;
            output.Backward(output);
        }

        for (int i = 0; i < 5; i++)
        {
            Run();
        }

        long native = device.Pool.SystemAllocations;
        long managed = GC.GetAllocatedBytesForCurrentThread();
        Run();
        Assert.InRange(GC.GetAllocatedBytesForCurrentThread() - managed, 0, 4096);
        Assert.Equal(native, device.Pool.SystemAllocations);
    }

    [Fact]
    public void ShapesThatDoNotFitAreNamed()
    {
        using var device = new CpuDevice(1);
        using var step = device.BeginStep();
        Tensor q = device.Zeros([2, 5, 2, 4]);
        Tensor v = device.Zeros([2, 5, 4, 3]);
        Tensor beta = device.Zeros([2, 5, 4]);
        DeltaRuleKind efla = DeltaRuleKind.Efla;
        AssertRefused("[2, 5, 2, 3]", () => DeltaRule.Apply(efla, q, device.Zeros([2, 5, 2, 3]), v, beta, null));
        AssertRefused("multiple", () => DeltaRule.Apply(efla, q, q, device.Zeros([2, 5, 3, 3]), device.Zeros([2, 5, 3]), null));
        AssertRefused("beta", () => DeltaRule.Apply(efla, q, q, v, null, null));
        AssertRefused("[2, 5, 2]", () => DeltaRule.Apply(efla, q, q, v, device.Zeros([2, 5, 2]), null));
        AssertRefused("log_decay", () => DeltaRule.Apply(DeltaRuleKind.Parse("gated_efla"), q, q, v, beta, null));
        AssertRefused("batch 1", () => DeltaRule.Apply(efla, q, q, v, beta, null, new() { Offsets = new SequenceOffsets([0, 5]) }));
        AssertRefused("[2, 4, 4, 3]", () => DeltaRule.Apply(efla, q, q, v, beta, null, new() { InitialState = device.Zeros([2, 4, 3, 4]) }));
        AssertRefused("chunk length", () => DeltaRule.Apply(efla, q, q, v, beta, null, new() { ChunkLength = 0 }));
        AssertRefused("float32", () => DeltaRule.Apply(efla, q, q, v, device.Zeros([2, 5, 4], DType.Int32), null));
    }

    private static void AssertRefused(string part, Action action)
        => Assert.Contains(part, Assert.Throws<InvalidInputException>(action).Message, StringComparison.Ordinal);

    private static Tensor Input(CpuDevice device, double[] values, Shape shape) => device.From<float>(ToFloat(values), shape).RequireGrad();

    private static float[] ToFloat(double[] values) => [.. values.Select(value => (float)value)];

    private static void AssertClose(double[] expected, Tensor actual, double factor, double tolerance)
    {
        double error = Errors.RelativeL2([.. actual.ToHost<float>().Select(value => value / factor)], expected);
        Assert.True(error <= tolerance, $"relative error {error:g3} exceeds {tolerance:g3}");
    }
}
