
namespace ExactFlow.Operators.Tests.DeltaRule;

/// <summary>The reference gradient against differences of the reference forward pass, for every rule, through coefficients, key norms and states.</summary>
public sealed class FiniteDifferenceTests
{
    public static TheoryData<string> RuleNames => [.. DeltaRuleKind.All.Select(rule => rule.Name)];

    [Theory]
    [MemberData(nameof(RuleNames))]
    public void EveryInputOfEveryRule(string rule)
    {
        DeltaRuleProblem problem = Problems.Random(rule, time: 5, keyHeads: 1, valueHeads: 2, keyDim: 3, valueDim: 2, keyScale: 0.6, offsets: [0, 3, 5]);
        DeltaRuleSolution solution = problem.SolveReference();
        Check("q", problem.Query, solution.GradQuery!);
        Check("k", problem.Key, solution.GradKey!);
        Check("v", problem.Value, solution.GradValue!);
        Check("beta", problem.Beta!, solution.GradBeta!);
        Check("log_decay", problem.LogDecay!, solution.GradLogDecay!);
        Check("initial_state", problem.InitialState!, solution.GradInitialState!);

        void Check(string name, double[] input, double[] gradient)
        {
            for (int i = 0; i < input.Length; i++)
            {
                // Fourth order, step 1e-3: truncation about 1e-12, rounding about 1e-13, times derivatives of order one.
                const double Step = 1e-3;
                double expected = ((8 * (LossWith(input, i, Step) - LossWith(input, i, -Step))) - LossWith(input, i, 2 * Step) + LossWith(input, i, -2 * Step)) / (12 * Step);
                Assert.True(Math.Abs(expected - gradient[i]) <= 1e-8 * (1 + Math.Abs(expected)), $"{name}[{i}]: {gradient[i]} instead of {expected}");
            }
        }

        double LossWith(double[] input, int index, double change)
        {
            double kept = input[index];
            input[index] += change;
            double loss = Loss(problem);
            input[index] = kept;
            return loss;
        }
    }

    private static double Loss(DeltaRuleProblem problem)
    {
        DeltaRuleSolution solution = (problem with { GradOutput = null }).SolveReference();
        return Dot(solution.Output, problem.GradOutput!) + Dot(solution.FinalState, problem.GradFinalState!);
    }

    private static double Dot(double[] x, double[] y) => x.Zip(y, (a, b) => a * b).Sum();
}
