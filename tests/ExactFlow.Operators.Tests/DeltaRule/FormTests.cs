using ExactFlow.Tensors;

namespace ExactFlow.Operators.Tests.DeltaRule;

/// <summary>The fast forms against the float64 reference: odd sizes, grouped heads, packed documents, wild inputs, few lanes.</summary>
public sealed class FormTests
{
    private const double Forward = 2e-5;
    private const double Gradient = 1e-4;

    public static TheoryData<string> RuleNames => [.. DeltaRuleKind.All.Select(rule => rule.Name)];

    public static TheoryData<int, int, int> OddSizes()
    {
        var data = new TheoryData<int, int, int>();
        foreach (int keyDim in (int[])[1, 3, 16, 33, 100])
        {
            foreach (int valueDim in (int[])[1, 24, 64, 100])
            {
                data.Add(keyDim, valueDim, 65);
            }
        }

        foreach (int time in (int[])[1, 2, 63, 64, 100, 130])
        {
            data.Add(24, 33, time);
        }

        data.Add(128, 128, 130);
        return data;
    }

    [Theory]
    [MemberData(nameof(OddSizes))]
    public void OddSizesWithAndWithoutDecay(int keyDim, int valueDim, int time)
    {
        foreach (string rule in (string[])["efla", "gated_efla"])
        {
            AssertFormsAgree(Problems.Random(rule, batch: 2, time, keyHeads: 2, valueHeads: 2, keyDim, valueDim, keyScale: 1 / Math.Sqrt(keyDim)));
        }
    }

    [Theory]
    [MemberData(nameof(RuleNames))]
    public void EveryRuleWithGroupedHeads(string rule)
        => AssertFormsAgree(Problems.Random(rule, batch: 2, time: 100, keyHeads: 2, valueHeads: 6, keyDim: 24, valueDim: 40, keyScale: 0.2));

    [Theory]
    [InlineData("efla")]
    [InlineData("gated_deltanet")]
    public void PackedDocumentsEmptyAndShort(string rule)
        => AssertFormsAgree(Problems.Random(rule, time: 140, keyHeads: 1, valueHeads: 2, offsets: [0, 0, 1, 2, 66, 66, 130, 140, 140]));

    [Theory]
    [InlineData("efla")]
    [InlineData("log_rate_gated_efla")]
    public void OneHeadIsSplitIntoColumns(string rule)
        => AssertFormsAgree(Problems.Random(rule, time: 100, keyDim: 32, valueDim: 72));

    [Theory]
    [InlineData("efla", 900, null)]
    [InlineData("gated_efla", 1000, null)]
    [InlineData("log_rate_gated_efla", 700, new[] { 0, 3, 700 })]
    [InlineData("mamba2", 640, null)]
    public void ALoneNarrowHeadIsSplitIntoSegments(string rule, int time, int[]? offsets)
    {
        // Five workers for one head of one slice of columns: five segments of chunks of 16, the middle ones with transitions.
        DeltaRuleProblem problem = Problems.Random(rule, time: time, keyDim: 24, valueDim: 12, chunkLength: 16, offsets: offsets);
        DeltaRuleSolution expected = problem.SolveReference();
        using var device = new CpuDevice(5) { PoisonFreshMemory = true };

        Errors.AssertClose(Errors.Of(expected), problem.Solve(device, DeltaRuleForm.Chunkwise, DeltaRulePrecision.Float64), 1e-10, 1e-10);
        Errors.AssertClose(Errors.Of(expected), problem.Solve(device, DeltaRuleForm.Chunkwise), Forward, Gradient);
        AssertFinalStateAgrees(device, problem);
        Assert.Equal(0, device.Pool.RentedBlocks);
    }

    [Fact]
    public void LongKeysAndLargeSteps()
    {
        // |k| up to about 60 and x up to 1e4.
        AssertFormsAgree(Problems.Random("efla", time: 130, keyDim: 32, valueDim: 32, keyScale: 10, betaScale: 3));
        AssertFormsAgree(Problems.Random("gated_efla", time: 130, keyDim: 32, valueDim: 32, keyScale: 10, betaScale: 3));
        AssertFormsAgree(Problems.Random("implicit_euler", time: 130, keyDim: 32, valueDim: 32, keyScale: 10, betaScale: 3));
    }

    [Theory]
    [InlineData("efla")]
    [InlineData("gated_efla")]
    [InlineData("deltanet")]
    [InlineData("log_rate_gated_efla")]
    public void ZeroAndTinyKeysAndZeroSteps(string rule)
    {
        DeltaRuleProblem problem = Problems.Random(rule, time: 100, keyDim: 16, valueDim: 16);
        for (int t = 0; t < 100; t++)
        {
            double factor = (t % 4) switch { 0 => 0, 1 => 1e-9, _ => 1 };
            for (int i = 0; i < 16; i++)
            {
                problem.Key[(t * 16) + i] = (float)(problem.Key[(t * 16) + i] * factor);
            }

            problem.Beta![t] = t % 5 == 0 ? 0 : problem.Beta[t];
        }

        AssertFormsAgree(problem);
    }

    [Theory]
    [InlineData("gated_deltanet")]
    [InlineData("gated_efla")]
    [InlineData("log_rate_gated_efla")]
    [InlineData("mamba2")]
    public void StrongAndCompleteDecay(string rule)
    {
        DeltaRuleProblem problem = Problems.Random(rule, time: 130, keyDim: 16, valueDim: 16);
        for (int t = 40; t < 130; t++)
        {
            problem.LogDecay![t] = (t % 7) switch { 0 => -200, 1 => -1e6, 2 => 0, 3 => -30, _ => problem.LogDecay[t] };
        }

        // What a complete decay leaves for the final state to act on is less than the sums of logs resolve.
        AssertFormsAgree(problem, finalStateToo: false);
    }

    [Theory]
    [InlineData("efla")]
    [InlineData("gated_efla")]
    public void ChunkLengthDoesNotMatter(string rule)
    {
        using var device = new CpuDevice(2) { PoisonFreshMemory = true };
        DeltaRuleProblem problem = Problems.Random(rule, batch: 2, time: 130, keyDim: 24, valueDim: 40);
        DeltaRuleSolution expected = problem.Solve(device, DeltaRuleForm.Reference, DeltaRulePrecision.Float64);
        foreach (int chunkLength in (int[])[1, 2, 16, 32, 33, 64, 128, 256])
        {
            DeltaRuleSolution actual = (problem with { ChunkLength = chunkLength }).Solve(device, DeltaRuleForm.Chunkwise, DeltaRulePrecision.Float64);
            Errors.AssertClose(Errors.Of(expected), actual, 1e-11, 1e-11);
        }
    }

    [Fact]
    public void ChunkwiseEqualsRecurrentOverManyTokens()
    {
        using var device = new CpuDevice(2);
        DeltaRuleProblem problem = Problems.Random("efla", time: 65536, keyDim: 32, valueDim: 32, gradients: false);
        DeltaRuleSolution chunkwise = problem.Solve(device, DeltaRuleForm.Chunkwise);
        DeltaRuleSolution recurrent = problem.Solve(device, DeltaRuleForm.Recurrent);

        Errors.AssertClose(Errors.Of(recurrent), chunkwise, 1e-4, 1e-4);
    }

    [Fact]
    public void ThreadsDoNotChangeTheBits()
    {
        DeltaRuleProblem problem = Problems.Random("gated_efla", batch: 3, time: 100, keyHeads: 2, valueHeads: 2, keyDim: 24, valueDim: 24);
        using var one = new CpuDevice(1);
        using var two = new CpuDevice(2);
        DeltaRuleSolution expected = problem.Solve(one, DeltaRuleForm.Chunkwise);
        DeltaRuleSolution actual = problem.Solve(two, DeltaRuleForm.Chunkwise);

        Assert.Equal(expected.Output, actual.Output);
        Assert.Equal(expected.GradKey, actual.GradKey);
        Assert.Equal(expected.GradLogDecay, actual.GradLogDecay);
    }

    private static void AssertFormsAgree(DeltaRuleProblem problem, bool finalStateToo = true)
    {
        using var device = new CpuDevice(2) { PoisonFreshMemory = true };
        DeltaRuleSolution expected = problem.Solve(device, DeltaRuleForm.Reference, DeltaRulePrecision.Float64);

        Errors.AssertClose(Errors.Of(expected), problem.Solve(device, DeltaRuleForm.Chunkwise, DeltaRulePrecision.Float64), 1e-10, 1e-10);
        Errors.AssertClose(Errors.Of(expected), problem.Solve(device, DeltaRuleForm.Recurrent, DeltaRulePrecision.Float64), 1e-10, 1e-10);
        Errors.AssertClose(Errors.Of(expected), problem.Solve(device, DeltaRuleForm.Chunkwise), Forward, Gradient);
        Errors.AssertClose(Errors.Of(expected), problem.Solve(device, DeltaRuleForm.Recurrent), Forward, Gradient);
        Errors.AssertClose(Errors.Of(expected), problem.Solve(device), Forward, Gradient);
        if (finalStateToo)
        {
            AssertFinalStateAgrees(device, problem);
        }

        Assert.Equal(0, device.Pool.RentedBlocks);
    }

    /// <summary>The forms without outputs against the whole reference, to whose outputs nothing comes back.</summary>
    private static void AssertFinalStateAgrees(CpuDevice device, DeltaRuleProblem problem)
    {
        DeltaRuleSolution whole = Errors.WholeReference(problem);
        DeltaRuleProblem only = problem with { FinalStateOnly = true };
        Errors.AssertFinalStateClose(problem, whole, only.SolveReference(), 1e-15, 1e-15);
        foreach (DeltaRuleForm form in (DeltaRuleForm[])[DeltaRuleForm.Chunkwise, DeltaRuleForm.Recurrent])
        {
            Errors.AssertFinalStateClose(problem, whole, only.Solve(device, form, DeltaRulePrecision.Float64), 1e-10, 1e-10);
            Errors.AssertFinalStateClose(problem, whole, only.Solve(device, form), Forward, Gradient);
        }
    }
}
