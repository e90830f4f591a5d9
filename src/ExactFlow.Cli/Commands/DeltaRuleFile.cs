using ExactFlow.Operators;
using ExactFlow.Tensors;
using ExactFlow.Tensors.Files;

namespace ExactFlow.Cli.Commands;

/// <summary>
/// Problems and solutions of the delta rule as safetensors files: <c>q k v beta log_decay initial_state grad_output grad_final_state cu_seqlens</c> and the metadata
/// <c>rule</c> and <c>scale</c> in, <c>output final_state grad_q grad_k grad_v grad_beta grad_log_decay grad_initial_state</c> out.
/// </summary>
internal static class DeltaRuleFile
{
    private const int Rank = 4;

    /// <summary>Reads a problem.</summary>
    /// <param name="file">The open file.</param>
    /// <param name="ruleName">The rule; null takes the one named in the file's metadata.</param>
    /// <param name="chunkLength">Tokens per chunk of the chunkwise form.</param>
    /// <exception cref="InvalidInputException">A tensor is missing or has another shape than q and v ask for.</exception>
    public static DeltaRuleProblem Read(SafetensorsFile file, string? ruleName, int chunkLength)
    {
        ruleName ??= file.Metadata.GetValueOrDefault("rule")
            ?? throw new InvalidInputException($"'{file.Path}' does not say which rule it is for: name one with --rule ({string.Join(", ", DeltaRuleKind.All)}).");
        DeltaRuleKind rule = DeltaRuleKind.Parse(ruleName);
        Shape q = ShapeOf(file, "q");
        Shape v = ShapeOf(file, "v");
        if (q.Rank != Rank || v.Rank != Rank || q[0] != v[0] || q[1] != v[1])
        {
            throw new InvalidInputException($"'{file.Path}' has q {q} and v {v}: both must be [batch, time, heads, dim] with equal batch and time.");
        }

        Shape scalars = [v[0], v[1], v[2]];
        SequenceOffsets? offsets = file.Find("cu_seqlens") is null ? null : new SequenceOffsets(file.Read<int>("cu_seqlens"));
        Shape states = [offsets?.Count ?? q[0], v[2], q[3], v[3]];
        double[]? gradOutput = Optional(file, "grad_output", v);
        double[]? gradFinalState = Optional(file, "grad_final_state", states);
        return new DeltaRuleProblem
        {
            Rule = rule,
            QueryShape = q,
            ValueShape = v,
            Query = file.Read<double>("q"),
            Key = Required(file, "k", q),
            Value = file.Read<double>("v"),
            Beta = rule.UsesBeta ? Required(file, "beta", scalars) : Optional(file, "beta", scalars),
            LogDecay = rule.Decays ? Required(file, "log_decay", scalars) : Optional(file, "log_decay", scalars),
            InitialState = Optional(file, "initial_state", states),
            Offsets = offsets,
            Scale = Scale(file),
            ChunkLength = chunkLength,
            GradOutput = gradOutput ?? (gradFinalState is null ? null : new double[v.Count]),
            GradFinalState = gradFinalState,
        };
    }

    /// <summary>Writes a solution: gradients for the inputs that were given, if any gradient of the outputs was.</summary>
    /// <returns>The names of the tensors written.</returns>
    public static IReadOnlyList<string> Write(string path, DeltaRuleProblem problem, DeltaRuleSolution solution, DeltaRulePrecision precision)
    {
        Shape q = problem.QueryShape;
        Shape v = problem.ValueShape;
        Shape scalars = [v[0], v[1], v[2]];
        Shape states = [problem.Offsets?.Count ?? q[0], v[2], q[3], v[3]];
        (string Name, Shape Shape, double[]? Values)[] tensors =
        [
            ("output", v, solution.Output),
            ("final_state", states, solution.FinalState),
            ("grad_q", q, solution.GradQuery),
            ("grad_k", q, solution.GradKey),
            ("grad_v", v, solution.GradValue),
            ("grad_beta", scalars, problem.Beta is null ? null : solution.GradBeta),
            ("grad_log_decay", scalars, problem.LogDecay is null ? null : solution.GradLogDecay),
            ("grad_initial_state", states, problem.InitialState is null ? null : solution.GradInitialState),
        ];
        var written = tensors.Where(tensor => tensor.Values is not null).ToList();
        SafetensorsType type = precision == DeltaRulePrecision.Float64 ? SafetensorsType.F64 : SafetensorsType.F32;
        var metadata = new Dictionary<string, string>(StringComparer.Ordinal) { ["rule"] = problem.Rule.Name };
        using var writer = new SafetensorsWriter(path, written.Select(tensor => new SafetensorsEntry(tensor.Name, type, [.. tensor.Shape.ToArray()])), metadata);
        foreach ((string name, _, double[]? values) in written)
        {
            if (type == SafetensorsType.F64)
            {
                writer.Write<double>(name, values);
            }
            else
            {
                writer.Write<float>(name, Array.ConvertAll(values!, value => (float)value));
            }
        }

        writer.Commit();
        return [.. written.Select(tensor => tensor.Name)];
    }

    private static Shape ShapeOf(SafetensorsFile file, string name) => file[name].ToTensorShape();

    private static double[] Required(SafetensorsFile file, string name, Shape expected)
    {
        Shape found = ShapeOf(file, name);
        return found == expected
            ? file.Read<double>(name)
            : throw new InvalidInputException($"'{file.Path}' has {name} of shape {found}, but its q and v ask for {expected}.");
    }

    private static double[]? Optional(SafetensorsFile file, string name, Shape expected) => file.Find(name) is null ? null : Required(file, name, expected);

    private static double? Scale(SafetensorsFile file)
    {
        if (!file.Metadata.TryGetValue("scale", out string? text))
        {
            return null;
        }

        return double.TryParse(text, out double scale) && double.IsFinite(scale)
            ? scale
            : throw new InvalidInputException($"'{file.Path}' has the metadata scale '{text}', which is not a finite number.");
    }
}
