using ExactFlow.Tensors;
using FsCheck;
using FsCheck.Fluent;

namespace ExactFlow.Operators.Tests.DeltaRule;

/// <summary>What must hold for any input, over random shapes and values.</summary>
public sealed class PropertyTests
{
    private static readonly Config Runs = Config.QuickThrowOnFailure.WithMaxTest(25);

    private static readonly Arbitrary<Dimensions> Any = Arb.From(
        from time in Gen.Choose(1, 90)
        from heads in Gen.Choose(1, 3)
        from keyDim in Gen.Choose(1, 20)
        from valueDim in Gen.Choose(1, 20)
        from seed in Gen.Choose(1, 1_000_000)
        select new Dimensions(time, heads, keyDim, valueDim, (ulong)seed));

    [Fact]
    public void AFlowComposesAndEulerConvergesToIt()
        => Check(d =>
        {
            // One token with step beta equals m tokens with step beta / m, the same key and value: exactly for the flow, to first order for Euler.
            DeltaRuleProblem whole = d.Problem("efla") with { GradOutput = null };
            foreach (int m in (int[])[2, 5])
            {
                AssertClose(Solve(whole).FinalState, Solve(Divide(whole, d, m)).FinalState, 1e-12);
            }

            double[] flow = Solve(whole).FinalState;
            DeltaRuleProblem euler = whole with { Rule = DeltaRuleKind.Parse("explicit_euler") };
            double coarse = Errors.RelativeL2(Solve(Divide(euler, d, 256)).FinalState, flow);
            double fine = Errors.RelativeL2(Solve(Divide(euler, d, 512)).FinalState, flow);
            Assert.True(coarse < 1e-12 || Math.Abs((coarse / fine) - 2) < 0.2, $"Euler's error went from {coarse} to {fine}");
        },
        maxTime: 6);

    [Fact]
    public void TheFlowNeverExpandsAndEulerDoes()
        => Check(d =>
        {
            DeltaRuleProblem problem = d.Problem("efla", betaScale: 10, keyScale: 3) with { GradOutput = null };
            Array.Clear(problem.Value);
            Assert.True(Norm(Solve(problem).FinalState) <= Norm(problem.InitialState!) * (1 + 1e-12));

            // One token with x > 2 along a state that lies in its direction: Euler's eigenvalue 1 - x is below -1.
            DeltaRuleProblem token = new Dimensions(1, 1, d.KeyDim, d.ValueDim, d.Seed).Problem("explicit_euler") with { GradOutput = null };
            Array.Clear(token.Value);
            double lambda = token.Key.Sum(k => k * k);
            token.Beta![0] = 2.5 / lambda;
            for (int i = 0; i < d.KeyDim; i++)
            {
                for (int j = 0; j < d.ValueDim; j++)
                {
                    token.InitialState![(i * d.ValueDim) + j] = token.Key[i];
                }
            }

            double before = Norm(token.InitialState!);
            Assert.Equal(1.5 * before, Norm(Solve(token).FinalState), 1e-9 * before);
            Assert.Equal(Math.Exp(-2.5) * before, Norm(Solve(token with { Rule = DeltaRuleKind.Efla }).FinalState), 1e-9 * before);
        });

    [Fact]
    public void EflaIsDeltaNetWithUnitKeysOnAnotherStepAndValue()
        => Check(d =>
        {
            // explicit_euler takes keys as they are: on unit keys it is DeltaNet without the epsilon.
            DeltaRuleProblem efla = d.Problem("efla") with { GradOutput = null };
            var keys = (double[])efla.Key.Clone();
            var values = (double[])efla.Value.Clone();
            var betas = (double[])efla.Beta!.Clone();
            for (int t = 0; t < d.Time * d.Heads; t++)
            {
                double lambda = 0;
                for (int i = 0; i < d.KeyDim; i++)
                {
                    lambda += keys[(t * d.KeyDim) + i] * keys[(t * d.KeyDim) + i];
                }

                for (int i = 0; i < d.KeyDim; i++)
                {
                    keys[(t * d.KeyDim) + i] /= Math.Sqrt(lambda);
                }

                for (int j = 0; j < d.ValueDim; j++)
                {
                    values[(t * d.ValueDim) + j] /= Math.Sqrt(lambda);
                }

                betas[t] = 1 - Math.Exp(-betas[t] * lambda);
            }

            DeltaRuleProblem deltaNet = efla with { Rule = DeltaRuleKind.Parse("explicit_euler"), Key = keys, Value = values, Beta = betas };
            AssertClose(Solve(efla).Output, Solve(deltaNet).Output, 1e-9);
        });

    [Fact]
    public void PackedDocumentsAreSeparateSequences()
        => Check(d =>
        {
            int first = (int)(d.Seed % (ulong)(d.Time + 1));
            DeltaRuleProblem packed = d.Problem("gated_efla", offsets: [0, first, first, d.Time]);
            DeltaRuleSolution together = Solve(packed);
            DeltaRuleSolution head = Solve(Slice(packed, d, 0, first, sequence: 0));
            DeltaRuleSolution tail = Solve(Slice(packed, d, first, d.Time, sequence: 2));
            AssertClose([.. head.Output, .. tail.Output], together.Output, 1e-12);
            AssertClose([.. head.GradKey!, .. tail.GradKey!], together.GradKey!, 1e-12);
            AssertClose([.. head.GradLogDecay!, .. tail.GradLogDecay!], together.GradLogDecay!, 1e-12);

            // The empty document passes its state and gradient through.
            int size = d.StateSize;
            AssertClose(packed.InitialState![size..(2 * size)], together.FinalState[size..(2 * size)], 0);
            AssertClose(packed.GradFinalState![size..(2 * size)], together.GradInitialState![size..(2 * size)], 0);
        });

    [Fact]
    public void ASequenceCanBeCutAndCarriedOn()
        => Check(d =>
        {
            int cut = (int)(d.Seed % (ulong)(d.Time + 1));
            DeltaRuleProblem whole = d.Problem("log_rate_gated_efla") with { GradOutput = null };
            DeltaRuleSolution expected = Solve(whole);
            DeltaRuleSolution head = Solve(Slice(whole, d, 0, cut, sequence: 0));
            DeltaRuleSolution tail = Solve(Slice(whole, d, cut, d.Time, sequence: 0) with { InitialState = head.FinalState });
            AssertClose(expected.Output, [.. head.Output, .. tail.Output], 1e-12);
            AssertClose(expected.FinalState, tail.FinalState, 1e-12);
        });

    [Fact]
    public void TheChunkLengthDoesNotMatter()
        => Check(d =>
        {
            DeltaRuleProblem problem = d.Problem("gated_efla");
            DeltaRuleSolution expected = Solve(problem with { ChunkLength = 1 });
            DeltaRuleSolution actual = Solve(problem with { ChunkLength = 2 + (int)(d.Seed % 70) });
            AssertClose(expected.Output, actual.Output, 1e-11);
            AssertClose(expected.FinalState, actual.FinalState, 1e-11);
            AssertClose(expected.GradKey!, actual.GradKey!, 1e-10);
            AssertClose(expected.GradBeta!, actual.GradBeta!, 1e-10);
            AssertClose(expected.GradInitialState!, actual.GradInitialState!, 1e-10);
        });

    [Fact]
    public void RowsOfTheBatchDoNotSeeEachOther()
        => Check(d =>
        {
            DeltaRuleProblem[] rows = [.. Enumerable.Range(0, 3).Select(row => (d with { Seed = d.Seed + (ulong)row }).Problem("log_rate_gated_efla"))];
            DeltaRuleSolution[] alone = [.. rows.Select(Solve)];
            int[] order = (d.Seed % 2) == 0 ? [2, 0, 1] : [1, 2, 0];
            DeltaRuleSolution together = Solve(Stack([.. order.Select(row => rows[row])]));
            AssertClose(Permuted(solution => solution.Output), together.Output, 1e-13);
            AssertClose(Permuted(solution => solution.FinalState), together.FinalState, 1e-13);
            AssertClose(Permuted(solution => solution.GradQuery!), together.GradQuery!, 1e-13);
            AssertClose(Permuted(solution => solution.GradLogDecay!), together.GradLogDecay!, 1e-12);

            double[] Permuted(Func<DeltaRuleSolution, double[]> part) => [.. order.SelectMany(row => part(alone[row]))];
        });

    private static void Check(Action<Dimensions> property, int maxTime = 90)
        => Prop.ForAll(Any, d => property(d with { Time = Math.Min(d.Time, maxTime) })).Check(Runs);

    private static DeltaRuleSolution Solve(DeltaRuleProblem problem)
    {
        using var device = new CpuDevice(1) { PoisonFreshMemory = true };
        return problem.Solve(device, DeltaRuleForm.Chunkwise, DeltaRulePrecision.Float64);
    }

    private static void AssertClose(double[] expected, double[] actual, double tolerance)
    {
        double error = Errors.RelativeL2(actual, expected);
        Assert.True(error <= tolerance, $"relative error {error:g3} exceeds {tolerance:g3}");
    }

    private static double Norm(double[] values) => Math.Sqrt(values.Sum(value => value * value));

    /// <summary>Every token m times, with an m-th of its step.</summary>
    private static DeltaRuleProblem Divide(DeltaRuleProblem problem, Dimensions d, int m)
    {
        double[] Repeat(double[] values)
        {
            int size = values.Length / d.Time;
            return [.. Enumerable.Range(0, d.Time).SelectMany(t => Enumerable.Repeat(values[(t * size)..((t + 1) * size)], m)).SelectMany(token => token)];
        }

        return problem with
        {
            QueryShape = [1, d.Time * m, d.Heads, d.KeyDim],
            ValueShape = [1, d.Time * m, d.Heads, d.ValueDim],
            Query = Repeat(problem.Query),
            Key = Repeat(problem.Key),
            Value = Repeat(problem.Value),
            Beta = [.. Repeat(problem.Beta!).Select(beta => beta / m)],
            LogDecay = Repeat(problem.LogDecay!),
        };
    }

    /// <summary>Problems of batch 1 and equal sizes as the rows of one batch.</summary>
    private static DeltaRuleProblem Stack(IReadOnlyList<DeltaRuleProblem> rows)
    {
        double[] Join(Func<DeltaRuleProblem, double[]?> part) => [.. rows.SelectMany(row => part(row)!)];
        return rows[0] with
        {
            QueryShape = rows[0].QueryShape.WithFirst(rows.Count),
            ValueShape = rows[0].ValueShape.WithFirst(rows.Count),
            Query = Join(row => row.Query),
            Key = Join(row => row.Key),
            Value = Join(row => row.Value),
            Beta = Join(row => row.Beta),
            LogDecay = Join(row => row.LogDecay),
            InitialState = Join(row => row.InitialState),
            GradOutput = Join(row => row.GradOutput),
            GradFinalState = Join(row => row.GradFinalState),
        };
    }

    /// <summary>Tokens from first to last with the state of one sequence.</summary>
    private static DeltaRuleProblem Slice(DeltaRuleProblem problem, Dimensions d, int first, int last, int sequence)
    {
        double[] Part(double[] values)
        {
            int size = values.Length / d.Time;
            return values[(first * size)..(last * size)];
        }

        return problem with
        {
            Offsets = null,
            QueryShape = [1, last - first, d.Heads, d.KeyDim],
            ValueShape = [1, last - first, d.Heads, d.ValueDim],
            Query = Part(problem.Query),
            Key = Part(problem.Key),
            Value = Part(problem.Value),
            Beta = Part(problem.Beta!),
            LogDecay = Part(problem.LogDecay!),
            InitialState = problem.InitialState![(sequence * d.StateSize)..((sequence + 1) * d.StateSize)],
            GradOutput = problem.GradOutput is null ? null : Part(problem.GradOutput),
            GradFinalState = problem.GradFinalState?[(sequence * d.StateSize)..((sequence + 1) * d.StateSize)],
        };
    }

    private sealed record Dimensions(int Time, int Heads, int KeyDim, int ValueDim, ulong Seed)
    {
        public int StateSize => Heads * KeyDim * ValueDim;

        public DeltaRuleProblem Problem(string rule, double betaScale = 1, double keyScale = 0.4, int[]? offsets = null)
            => Problems.Random(rule, 1, Time, Heads, Heads, KeyDim, ValueDim, Seed, keyScale, betaScale, chunkLength: 16, offsets: offsets);
    }
}
