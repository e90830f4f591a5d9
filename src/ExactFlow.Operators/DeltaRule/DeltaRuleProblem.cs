using ExactFlow.Tensors;

namespace ExactFlow.Operators;

/// <summary>Precision in which a <see cref="DeltaRuleProblem"/> is solved.</summary>
public enum DeltaRulePrecision
{
    /// <summary>Single precision, as in training.</summary>
    Float32,

    /// <summary>Double precision.</summary>
    Float64,
}

/// <summary>
/// The operator on plain arrays, in any form and precision: what <c>exactflow op</c> runs and what tests compare.
/// All arrays are row-major in the layouts of <see cref="DeltaRule.Apply"/>; shapes come from <see cref="QueryShape"/> and <see cref="ValueShape"/>.
/// </summary>
public sealed unsafe record DeltaRuleProblem
{
    /// <summary>The rule.</summary>
    public required DeltaRuleKind Rule { get; init; }

    /// <summary><c>[batch, time, keyHeads, keyDim]</c>.</summary>
    public required Shape QueryShape { get; init; }

    /// <summary><c>[batch, time, valueHeads, valueDim]</c>.</summary>
    public required Shape ValueShape { get; init; }

    /// <summary>Queries.</summary>
    public required double[] Query { get; init; }

    /// <summary>Keys, shaped as the queries.</summary>
    public required double[] Key { get; init; }

    /// <summary>Values.</summary>
    public required double[] Value { get; init; }

    /// <summary>Step sizes, <c>[batch, time, valueHeads]</c>; null for rules without.</summary>
    public double[]? Beta { get; init; }

    /// <summary>ln alpha, <c>[batch, time, valueHeads]</c>; null for rules that do not decay.</summary>
    public double[]? LogDecay { get; init; }

    /// <summary><c>[sequences, valueHeads, keyDim, valueDim]</c>; zero if null.</summary>
    public double[]? InitialState { get; init; }

    /// <summary>Documents of a packed row, or null.</summary>
    public SequenceOffsets? Offsets { get; init; }

    /// <summary>Factor on the output; keyDim^-1/2 if null.</summary>
    public double? Scale { get; init; }

    /// <summary>Tokens per chunk of the chunkwise form.</summary>
    public int ChunkLength { get; init; } = 64;

    /// <summary>
    /// Whether only the final state is computed: queries and the gradient of the output are not read, the output and the gradient of the queries are zero, and
    /// gradients are given if that of the final state is.
    /// </summary>
    public bool FinalStateOnly { get; init; }

    /// <summary>Gradient of the output; null if gradients are not wanted.</summary>
    public double[]? GradOutput { get; init; }

    /// <summary>Gradient of the final state; zero if null.</summary>
    public double[]? GradFinalState { get; init; }

    private delegate void Solver(in DeltaRuleCall<double> call);

    /// <summary>Solves it on a CPU device's workers.</summary>
    /// <exception cref="InvalidInputException">Shapes, array lengths or options do not fit together.</exception>
    public DeltaRuleSolution Solve(CpuDevice device, DeltaRuleForm form = DeltaRuleForm.Auto, DeltaRulePrecision precision = DeltaRulePrecision.Float32)
    {
        ArgumentNullException.ThrowIfNull(device);
        return Solve((in DeltaRuleCall<double> call) => DeltaRuleForms.Solve(device, form, precision, call));
    }

    /// <summary>Solves it in the reference form, float64, on the calling thread.</summary>
    /// <exception cref="InvalidInputException">Shapes, array lengths or options do not fit together.</exception>
    public DeltaRuleSolution SolveReference() => Solve((in DeltaRuleCall<double> call) => DeltaRuleForms.SolveReference(call));

    private DeltaRuleSolution Solve(Solver solver)
    {
        DeltaRuleSizes sizes = CheckShapes();
        DeltaRuleSolution solution = MakeSolution(sizes);
        fixed (double* q = Query, k = Key, v = Value, beta = Beta, logDecay = LogDecay, initialState = InitialState, gradOutput = GradOutput, gradFinalState = GradFinalState)
        fixed (double* output = solution.Output, finalState = solution.FinalState, gradQ = solution.GradQuery, gradK = solution.GradKey, gradV = solution.GradValue)
        fixed (double* gradBeta = solution.GradBeta, gradLogDecay = solution.GradLogDecay, gradInitialState = solution.GradInitialState)
        {
            var call = new DeltaRuleCall<double>
            {
                Rule = Rule,
                Sizes = sizes,
                Scale = Scale ?? 1 / Math.Sqrt(sizes.KeyDim),
                ChunkLength = ChunkLength,
                Offsets = Offsets,
                Query = FinalStateOnly ? null : q,
                Key = k,
                Value = v,
                Beta = beta,
                LogDecay = logDecay,
                InitialState = initialState,
                Output = FinalStateOnly ? null : output,
                FinalState = finalState,
                GradOutput = FinalStateOnly ? null : gradOutput,
                GradFinalState = gradFinalState,
                GradQuery = new(FinalStateOnly ? null : gradQ, accumulate: false),
                GradKey = new(gradK, accumulate: false),
                GradValue = new(gradV, accumulate: false),
                GradBeta = new(gradBeta, accumulate: false),
                GradLogDecay = new(gradLogDecay, accumulate: false),
                GradInitialState = new(gradInitialState, accumulate: false),
            };
            solver(call);
        }

        return solution;
    }

    private DeltaRuleSizes CheckShapes()
    {
        Shape scalars = [ValueShape[0], ValueShape[1], ValueShape[2]];
        DeltaRuleSizes sizes = DeltaRuleShapes.Check(
            Rule, QueryShape, QueryShape, ValueShape, Beta is null ? null : scalars, LogDecay is null ? null : scalars, Offsets, state: null, ChunkLength);
        long states = DeltaRuleShapes.State(sizes, Offsets).Count;
        RequireLength(Query, sizes.QueryCount, "q");
        RequireLength(Key, sizes.QueryCount, "k");
        RequireLength(Value, sizes.ValueCount, "v");
        RequireLength(Beta, sizes.ScalarCount, "beta");
        RequireLength(LogDecay, sizes.ScalarCount, "log_decay");
        RequireLength(InitialState, states, "initial_state");
        RequireLength(GradOutput, sizes.ValueCount, "grad_output");
        RequireLength(GradFinalState, states, "grad_final_state");
        return sizes;
    }

    private static void RequireLength(double[]? values, long expected, string name)
    {
        if (values is not null && values.LongLength != expected)
        {
            throw new InvalidInputException($"The delta rule cannot run: {name} must have {expected} elements, but it has {values.LongLength}.");
        }
    }

    private DeltaRuleSolution MakeSolution(DeltaRuleSizes sizes)
    {
        long states = DeltaRuleShapes.State(sizes, Offsets).Count;
        bool gradients = (FinalStateOnly ? GradFinalState : GradOutput) is not null;
        return new DeltaRuleSolution
        {
            Output = new double[sizes.ValueCount],
            FinalState = new double[states],
            GradQuery = gradients ? new double[sizes.QueryCount] : null,
            GradKey = gradients ? new double[sizes.QueryCount] : null,
            GradValue = gradients ? new double[sizes.ValueCount] : null,
            GradBeta = gradients ? new double[sizes.ScalarCount] : null,
            GradLogDecay = gradients ? new double[sizes.ScalarCount] : null,
            GradInitialState = gradients ? new double[states] : null,
        };
    }
}

/// <summary>What <see cref="DeltaRuleProblem.Solve"/> returns; gradients are null if no gradient of the output was given.</summary>
public sealed record DeltaRuleSolution
{
    /// <summary><c>[batch, time, valueHeads, valueDim]</c>.</summary>
    public required double[] Output { get; init; }

    /// <summary><c>[sequences, valueHeads, keyDim, valueDim]</c>.</summary>
    public required double[] FinalState { get; init; }

    /// <summary>Gradient of the queries.</summary>
    public double[]? GradQuery { get; init; }

    /// <summary>Gradient of the keys.</summary>
    public double[]? GradKey { get; init; }

    /// <summary>Gradient of the values.</summary>
    public double[]? GradValue { get; init; }

    /// <summary>Gradient of the step sizes (zero for rules without).</summary>
    public double[]? GradBeta { get; init; }

    /// <summary>Gradient of the log decays (zero for rules without).</summary>
    public double[]? GradLogDecay { get; init; }

    /// <summary>Gradient of the initial state.</summary>
    public double[]? GradInitialState { get; init; }
}
