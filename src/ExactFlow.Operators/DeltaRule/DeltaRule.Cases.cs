using ExactFlow.Tensors;

namespace ExactFlow.Operators;

/// <summary>Shapes and edge values of the delta rule.</summary>
public sealed class DeltaRuleCases : IOperatorCases
{
    private readonly record struct Size(int Batch, int Time, int KeyHeads, int ValueHeads, int KeyDim, int ValueDim);

    /// <inheritdoc/>
    public static IEnumerable<OperatorCase> Cases
    {
        get
        {
            foreach (DeltaRuleKind rule in DeltaRuleKind.All)
            {
                yield return Make($"{rule} on odd sizes", rule, new Size(2, 67, 1, 2, 7, 5));
            }

            DeltaRuleKind efla = DeltaRuleKind.Efla;
            yield return Make("one token", efla, new Size(1, 1, 1, 1, 3, 1));
            yield return Make("exactly one chunk", efla, new Size(1, 64, 2, 2, 16, 16));
            yield return Make("one token more than a chunk", efla, new Size(1, 65, 1, 1, 33, 24));
            yield return Make("long keys", efla, new Size(1, 63, 1, 1, 16, 16), keyScale: 10);
            yield return Make("zero keys", efla, new Size(1, 20, 1, 1, 4, 4), keyScale: 0);
            yield return Make("tiny keys", efla, new Size(1, 20, 1, 1, 4, 4), keyScale: 1e-9);
            foreach (DeltaRuleKind rule in (DeltaRuleKind[])[efla, DeltaRuleKind.Parse("gated_efla")])
            {
                yield return FinalState($"final state only, {rule}", rule, new Size(2, 67, 1, 2, 7, 5));
                yield return FinalState($"final state only of a few tokens, {rule}", rule, new Size(1, 5, 1, 1, 3, 9));
            }

            yield return FinalState("final state only, heads of 64", efla, new Size(4, 100, 2, 2, 64, 64));
            yield return FinalState("final state only, 128 x 784 tokens, a head of 64", efla, new Size(128, 784, 1, 1, 64, 64)) with { IsBenchmark = true };
            yield return Make("4 x 2048 tokens, 8 heads of 64", efla, new Size(4, 2048, 8, 8, 64, 64)) with { IsBenchmark = true };
            yield return Make("2048 tokens, 8 heads of 128", efla, new Size(1, 2048, 8, 8, 128, 128)) with { IsBenchmark = true };
            yield return Make("4 x 2048 tokens, 8 heads of 64, decaying", DeltaRuleKind.Parse("gated_efla"), new Size(4, 2048, 8, 8, 64, 64)) with { IsBenchmark = true };
        }
    }

    private static OperatorCase Make(string name, DeltaRuleKind rule, Size size, double? keyScale = null)
    {
        Shape query = [size.Batch, size.Time, size.KeyHeads, size.KeyDim];
        Shape value = [size.Batch, size.Time, size.ValueHeads, size.ValueDim];
        Shape scalars = [size.Batch, size.Time, size.ValueHeads];
        Shape states = [size.Batch, size.ValueHeads, size.KeyDim, size.ValueDim];
        DeltaRuleProblem Problem(IReadOnlyList<double[]> inputs) => new()
        {
            Rule = rule,
            QueryShape = query,
            ValueShape = value,
            Query = inputs[0],
            Key = inputs[1],
            Value = inputs[2],
            Beta = inputs[3],
            LogDecay = inputs[4],
            InitialState = inputs[5],
        };
        return new OperatorCase(
            "DeltaRule",
            name,
            [
                new CaseInput("q", query),
                new CaseInput("k", query, CaseValues.Normal, keyScale ?? 1 / Math.Sqrt(size.KeyDim)),
                new CaseInput("v", value),
                new CaseInput("beta", scalars, CaseValues.Uniform),
                new CaseInput("log_decay", scalars, CaseValues.Negative, 0.3),
                new CaseInput("initial_state", states),
            ],
            inputs => Run(rule, inputs),
            inputs =>
            {
                DeltaRuleSolution solution = Problem(inputs).SolveReference();
                return [solution.Output, solution.FinalState];
            },
            (inputs, gradients) => GradientsOf((Problem(inputs) with { GradOutput = gradients[0], GradFinalState = gradients[1] }).SolveReference()))
        {
            ForwardTolerance = 2e-5,
            GradientTolerance = 1e-4,
            ForwardFlops = DeltaRuleCost.ForwardFlops(size.Batch, size.Time, size.ValueHeads, size.KeyDim, size.ValueDim),
            ForwardBytes = DeltaRuleCost.ForwardBytes(size.Batch, size.Time, size.KeyHeads, size.ValueHeads, size.KeyDim, size.ValueDim),
        };
    }

    private static OperatorCase FinalState(string name, DeltaRuleKind rule, Size size)
    {
        OperatorCase whole = Make(name, rule, size);
        Shape query = [size.Batch, size.Time, size.KeyHeads, size.KeyDim], value = [size.Batch, size.Time, size.ValueHeads, size.ValueDim];
        DeltaRuleProblem Problem(IReadOnlyList<double[]> inputs) => new()
        {
            Rule = rule,
            QueryShape = query,
            ValueShape = value,
            Query = new double[query.Count],
            Key = inputs[0],
            Value = inputs[1],
            Beta = inputs[2],
            LogDecay = inputs[3],
            InitialState = inputs[4],
            FinalStateOnly = true,
        };
        return new OperatorCase(
            "DeltaRule",
            name,
            [.. whole.Inputs.Skip(1)],
            inputs => [DeltaRule.FinalState(rule, inputs[0], inputs[1], inputs[2], inputs[3], new DeltaRuleOptions { InitialState = inputs[4] })],
            inputs => [Problem(inputs).SolveReference().FinalState],
            (inputs, gradients) => [.. GradientsOf((Problem(inputs) with { GradFinalState = gradients[0] }).SolveReference()).Skip(1)])
        {
            ForwardTolerance = whole.ForwardTolerance,
            GradientTolerance = whole.GradientTolerance,
            ForwardFlops = DeltaRuleCost.FinalStateFlops(size.Batch, size.Time, size.ValueHeads, size.KeyDim, size.ValueDim),
            ForwardBytes = DeltaRuleCost.FinalStateBytes(size.Batch, size.Time, size.KeyHeads, size.ValueHeads, size.KeyDim, size.ValueDim),
        };
    }

    private static IReadOnlyList<Tensor> Run(DeltaRuleKind rule, IReadOnlyList<Tensor> inputs)
    {
        DeltaRuleResult result = DeltaRule.Apply(
            rule, inputs[0], inputs[1], inputs[2], inputs[3], inputs[4], new DeltaRuleOptions { InitialState = inputs[5], WantFinalState = true });
        return [result.Output, result.FinalState!];
    }

    private static IReadOnlyList<double[]?> GradientsOf(DeltaRuleSolution solution)
        => [solution.GradQuery, solution.GradKey, solution.GradValue, solution.GradBeta, solution.GradLogDecay, solution.GradInitialState];
}
