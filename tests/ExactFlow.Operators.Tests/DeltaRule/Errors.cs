namespace ExactFlow.Operators.Tests.DeltaRule;

/// <summary>Error measures shared by the tests of this folder.</summary>
internal static class Errors
{
    /// <summary>|actual - expected| / |expected| in the L2 norm; infinite if anything is not finite; absolute where all is expected to be zero.</summary>
    public static double RelativeL2(ReadOnlySpan<double> actual, ReadOnlySpan<double> expected)
    {
        Assert.Equal(expected.Length, actual.Length);
        double difference = 0;
        double norm = 0;
        for (int i = 0; i < expected.Length; i++)
        {
            difference += (actual[i] - expected[i]) * (actual[i] - expected[i]);
            norm += expected[i] * expected[i];
        }

        double error = norm == 0 ? Math.Sqrt(difference) : Math.Sqrt(difference / norm);
        return double.IsNaN(error) ? double.PositiveInfinity : error;
    }

    /// <summary>Compares all results of two solutions, or of a solution and a reference file.</summary>
    public static void AssertClose(Func<string, double[]?> expected, DeltaRuleSolution actual, double forward, double gradient)
    {
        var failures = new List<string>();
        Check("output", actual.Output, forward);
        Check("final_state", actual.FinalState, forward);
        Check("grad_q", actual.GradQuery, gradient);
        Check("grad_k", actual.GradKey, gradient);
        Check("grad_v", actual.GradValue, gradient);
        Check("grad_beta", actual.GradBeta, gradient);
        Check("grad_log_decay", actual.GradLogDecay, gradient);
        Check("grad_initial_state", actual.GradInitialState, gradient);
        Assert.True(failures.Count == 0, string.Join("; ", failures));

        void Check(string name, double[]? values, double tolerance)
        {
            if (expected(name) is { } reference)
            {
                double error = RelativeL2(values!, reference);
                if (!(error <= tolerance))
                {
                    failures.Add($"{name}: relative error {error:g3} exceeds {tolerance:g3}");
                }
            }
        }
    }

    /// <summary>
    /// Compares a solution without outputs with the whole reference, to whose outputs nothing comes back. The gradient of the initial state is what the tokens left of that of
    /// the final one, and every token rounds on the scale of what it still had (6e-8 of it in float32, 65 tokens: some 5e-7 of the whole in a random walk): so its error is at most
    /// the tolerance of itself, or a hundredth of that of the gradient it is what is left of, whichever is more.
    /// </summary>
    public static void AssertFinalStateClose(DeltaRuleProblem problem, DeltaRuleSolution whole, DeltaRuleSolution actual, double forward, double gradient)
    {
        double[] left = whole.GradInitialState!;
        double error = Norm(left.Zip(actual.GradInitialState!, (x, y) => x - y)), allowed = gradient * Math.Max(Norm(left), 1e-2 * Norm(problem.GradFinalState!));
        Assert.True(error <= allowed, $"grad_initial_state: error {error:g3} exceeds {allowed:g3}");
        actual = actual with { GradInitialState = left };

        // What float32 flushes to zero (a rate so large that e^-x is below its range) is compared as zero.
        Func<string, double[]?> expected = Of(whole with { Output = new double[whole.Output.Length] });
        AssertClose(name => expected(name) is { } values && values.All(value => Math.Abs(value) < 1e-30) ? new double[values.Length] : expected(name), actual, forward, gradient);
    }

    private static double Norm(IEnumerable<double> values) => Math.Sqrt(values.Sum(value => value * value));

    /// <summary>The reference of a problem to whose outputs nothing comes back.</summary>
    public static DeltaRuleSolution WholeReference(DeltaRuleProblem problem) => (problem with { GradOutput = new double[problem.ValueShape.Count] }).SolveReference();

    /// <summary>The results of a solution by the names used in files.</summary>
    public static Func<string, double[]?> Of(DeltaRuleSolution solution) => name => name switch
    {
        "output" => solution.Output,
        "final_state" => solution.FinalState,
        "grad_q" => solution.GradQuery,
        "grad_k" => solution.GradKey,
        "grad_v" => solution.GradValue,
        "grad_beta" => solution.GradBeta,
        "grad_log_decay" => solution.GradLogDecay,
        _ => solution.GradInitialState,
    };
}
