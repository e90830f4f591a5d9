using System.Globalization;
using System.Text.Json;
using System.Text.Json.Nodes;
using ExactFlow.Models.Layers;
using ExactFlow.Tensors;
using ExactFlow.Tensors.Files;

namespace ExactFlow.Models;

/// <summary>
/// Weights in safetensors files, under the names of the flash-linear-attention models. Reading checks every tensor of every file before it changes
/// a single weight, so a wrong file leaves the model as it was.
/// </summary>
/// <seealso cref="WeightSource"/>
public static class ModelWeights
{
    private const int ChunkLength = 1 << 20;
    private static readonly JsonSerializerOptions Indented = new() { WriteIndented = true };

    /// <summary>Writes all weights to one file.</summary>
    /// <param name="model">The model.</param>
    /// <param name="path">The file; it appears whole or not at all.</param>
    /// <param name="format">F32 (exact), or F16 or BF16 (rounded to nearest, ties to even).</param>
    /// <exception cref="InvalidInputException">The format is none of these, or the disk refuses.</exception>
    public static void Save(LanguageModel model, string path, SafetensorsType format = SafetensorsType.F32)
    {
        ArgumentNullException.ThrowIfNull(model);
        RequireFormat(format);
        Save(model.Layout.Parameters, path, format);
    }

    /// <summary>Writes all weights to several files in a folder, <c>model-00001-of-00003.safetensors</c> and so on, and then the index that names the file of each tensor.</summary>
    /// <param name="model">The model.</param>
    /// <param name="folder">The folder, which exists.</param>
    /// <param name="shardBytes">Bytes of values in a file at most; a tensor that is larger has a file of its own.</param>
    /// <param name="format">As for one file.</param>
    /// <exception cref="InvalidInputException">The format is none of these, or the disk refuses.</exception>
    public static void SaveSharded(LanguageModel model, string folder, long shardBytes, SafetensorsType format = SafetensorsType.F32)
    {
        ArgumentNullException.ThrowIfNull(model);
        ArgumentOutOfRangeException.ThrowIfLessThan(shardBytes, 1);
        RequireFormat(format);
        List<List<ModelParameter>> shards = [[]];
        long bytes = 0, total = 0;
        foreach (ModelParameter parameter in model.Layout.Parameters)
        {
            long length = parameter.Value.Count * format.Size();
            if (shards[^1].Count > 0 && bytes + length > shardBytes)
            {
                shards.Add([]);
                bytes = 0;
            }

            shards[^1].Add(parameter);
            bytes += length;
            total += length;
        }

        JsonObject map = [];
        for (int i = 0; i < shards.Count; i++)
        {
            string name = string.Create(CultureInfo.InvariantCulture, $"model-{i + 1:00000}-of-{shards.Count:00000}.safetensors");
            Save(shards[i], Path.Combine(folder, name), format);
            shards[i].ForEach(parameter => map.Add(parameter.Name, name));
        }

        JsonObject index = new() { ["metadata"] = new JsonObject { ["total_size"] = total }, ["weight_map"] = map };
        AtomicFile.WriteAllText(Path.Combine(folder, ModelFolder.WeightsIndexFile), index.ToJsonString(Indented) + "\n");
    }

    /// <summary>Reads all weights from one file.</summary>
    /// <exception cref="InvalidInputException">The file is damaged, or its tensors are not exactly those of the model; the message lists every difference.</exception>
    public static void Load(LanguageModel model, string path)
    {
        using WeightSource source = WeightSource.Open(path);
        source.ReadInto(model);
    }

    /// <summary>Reads all weights from the files that an index (<c>model.safetensors.index.json</c>) names, which lie beside it.</summary>
    /// <inheritdoc cref="Load(LanguageModel, string)"/>
    public static void LoadSharded(LanguageModel model, string indexPath)
    {
        using WeightSource source = WeightSource.OpenSharded(indexPath);
        source.ReadInto(model);
    }

    private static void RequireFormat(SafetensorsType format)
    {
        if (format is not (SafetensorsType.F32 or SafetensorsType.F16 or SafetensorsType.BF16))
        {
            throw new InvalidInputException($"Weights were to be saved as {format.FileName()}; the formats are F32, F16 and BF16.");
        }
    }

    private static void Save(IReadOnlyList<ModelParameter> parameters, string path, SafetensorsType format)
    {
        IEnumerable<SafetensorsEntry> entries = parameters.Select(parameter => new SafetensorsEntry(parameter.Name, format, Extents(parameter.FileShape)));
        using var writer = new SafetensorsWriter(path, entries, new Dictionary<string, string> { ["format"] = "pt" });
        foreach (ModelParameter parameter in parameters)
        {
            Write(writer, parameter, format);
        }

        writer.Commit();
    }

    private static void Write(SafetensorsWriter writer, ModelParameter parameter, SafetensorsType format)
    {
        if (format == SafetensorsType.F32)
        {
            writer.Write(parameter.Name, parameter.Value);
            return;
        }

        var values = new float[ChunkLength];
        var half = new Half[ChunkLength];
        var brain = new ushort[ChunkLength];
        for (long start = 0; start < parameter.Value.Count; start += ChunkLength)
        {
            int count = (int)Math.Min(ChunkLength, parameter.Value.Count - start);
            parameter.Value.CopyTo(values.AsSpan(0, count), start);
            for (int i = 0; i < count; i++)
            {
                half[i] = (Half)values[i];
                brain[i] = ToBFloat16(values[i]);
            }

            if (format == SafetensorsType.F16)
            {
                writer.Write<Half>(parameter.Name, half.AsSpan(0, count));
            }
            else
            {
                writer.Write<ushort>(parameter.Name, brain.AsSpan(0, count));
            }
        }
    }

    /// <summary>The upper half of a float32, rounded to nearest, ties to even; NaN stays NaN.</summary>
    private static ushort ToBFloat16(float value)
    {
        uint bits = BitConverter.SingleToUInt32Bits(value);
        return float.IsNaN(value) ? (ushort)((bits >> 16) | 0x40) : (ushort)((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16);
    }

    /// <summary>A shape as files have it.</summary>
    internal static long[] Extents(Shape shape) => [.. shape.ToArray().Select(extent => (long)extent)];
}
