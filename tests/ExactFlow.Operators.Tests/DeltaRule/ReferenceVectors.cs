using System.Buffers.Binary;
using System.Globalization;
using System.Runtime.InteropServices;
using System.Text.Json;
using ExactFlow.Tensors;

namespace ExactFlow.Operators.Tests.DeltaRule;

/// <summary>The float64 reference vectors in Reference/*.safetensors, computed by an independent implementation.</summary>
public sealed class ReferenceVectors
{
    private readonly Dictionary<string, double[]> tensors = [];
    private readonly Dictionary<string, Shape> shapes = [];

    private ReferenceVectors(string name)
    {
        byte[] file = File.ReadAllBytes(Path.Combine(AppContext.BaseDirectory, "Reference", name + ".safetensors"));
        int headerLength = checked((int)BinaryPrimitives.ReadInt64LittleEndian(file));
        using JsonDocument header = JsonDocument.Parse(file.AsMemory(8, headerLength));
        foreach (JsonProperty entry in header.RootElement.EnumerateObject())
        {
            if (entry.NameEquals("__metadata__"))
            {
                Rule = DeltaRuleKind.Parse(entry.Value.GetProperty("rule").GetString()!);
                Scale = double.Parse(entry.Value.GetProperty("scale").GetString()!, CultureInfo.InvariantCulture);
                continue;
            }

            int start = 8 + headerLength + entry.Value.GetProperty("data_offsets")[0].GetInt32();
            int end = 8 + headerLength + entry.Value.GetProperty("data_offsets")[1].GetInt32();
            ReadOnlySpan<byte> bytes = file.AsSpan(start..end);
            shapes[entry.Name] = Shape.Of([.. entry.Value.GetProperty("shape").EnumerateArray().Select(extent => extent.GetInt32())]);
            tensors[entry.Name] = entry.Value.GetProperty("dtype").GetString() == "I64"
                ? [.. MemoryMarshal.Cast<byte, long>(bytes).ToArray().Select(value => (double)value)]
                : MemoryMarshal.Cast<byte, double>(bytes).ToArray();
        }
    }

    /// <summary>All files.</summary>
    public static TheoryData<string> Names =>
    [
        .. Directory.EnumerateFiles(Path.Combine(AppContext.BaseDirectory, "Reference"), "*.safetensors").Select(path => Path.GetFileNameWithoutExtension(path)).Order(StringComparer.Ordinal),
    ];

    public DeltaRuleKind Rule { get; private set; } = null!;

    public double Scale { get; private set; }

    public double[] this[string tensor] => tensors[tensor];

    public static ReferenceVectors Load(string name) => new(name);

    public Shape ShapeOf(string tensor) => shapes[tensor];

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
