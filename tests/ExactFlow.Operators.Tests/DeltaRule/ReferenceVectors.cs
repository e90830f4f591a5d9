using System.Globalization;
using ExactFlow.Tensors;
using ExactFlow.Tensors.Files;

namespace ExactFlow.Operators.Tests.DeltaRule;

/// <summary>The float64 reference vectors in Reference/*.safetensors, computed by an independent implementation.</summary>
public sealed class ReferenceVectors
{
    private readonly Dictionary<string, double[]> tensors = [];
    private readonly Dictionary<string, Shape> shapes = [];

    private ReferenceVectors(string name)
    {
        using SafetensorsFile file = SafetensorsFile.Open(Path.Combine(AppContext.BaseDirectory, "Reference", name + ".safetensors"));
        Rule = DeltaRuleKind.Parse(file.Metadata["rule"]);
        Scale = double.Parse(file.Metadata["scale"], CultureInfo.InvariantCulture);
        foreach (SafetensorsEntry entry in file.Entries)
        {
            shapes[entry.Name] = entry.ToTensorShape();
            tensors[entry.Name] = file.Read<double>(entry.Name);
        }
    }

    /// <summary>All files.</summary>
    public static TheoryData<string> Names =>
    [
        .. Directory.EnumerateFiles(Path.Combine(AppContext.BaseDirectory, "Reference"), "*.safetensors").Select(path => Path.GetFileNameWithoutExtension(path)).Order(StringComparer.Ordinal),
    ];

    public DeltaRuleKind Rule { get; }

    public double Scale { get; }

    public double[] this[string tensor] => tensors[tensor];

    public static ReferenceVectors Load(string name) => new(name);

    public SequenceOffsets? Offsets => tensors.TryGetValue("cu_seqlens", out double[]? offsets) ? new SequenceOffsets([.. offsets.Select(offset => (int)offset)]) : null;

    /// <summary>The file's inputs as a problem.</summary>
    public DeltaRuleProblem Problem(int chunkLength = 64) => new()
    {
        Rule = Rule,
        QueryShape = shapes["q"],
        ValueShape = shapes["v"],
        Query = this["q"],
        Key = this["k"],
        Value = this["v"],
        Beta = this["beta"],
        LogDecay = this["log_decay"],
        InitialState = this["initial_state"],
        Offsets = Offsets,
        Scale = Scale,
        ChunkLength = chunkLength,
        GradOutput = this["grad_output"],
        GradFinalState = this["grad_final_state"],
    };
}
