using System.Globalization;
using ExactFlow.Operators;
using ExactFlow.Tensors;
using ExactFlow.Tensors.Files;

namespace ExactFlow.Training.Checkpoints;

/// <summary>AdamW's moments and step count as a safetensors file, exact to the bit.</summary>
internal static class OptimizerFile
{
    public const string FileName = "optimizer.safetensors";
    private const string FirstMoment = "first_moment.";
    private const string SecondMoment = "second_moment.";
    private const string StepCount = "step_count";

    public static void Save(string folder, AdamW optimizer)
    {
        var tensors = new List<(string Name, Tensor Value)>();
        for (int i = 0; i < optimizer.Parameters.Count; i++)
        {
            tensors.Add((FirstMoment + optimizer.Parameters[i].Name, optimizer.FirstMoments[i]));
            tensors.Add((SecondMoment + optimizer.Parameters[i].Name, optimizer.SecondMoments[i]));
        }

        Save(Path.Combine(folder, FileName), tensors, new Dictionary<string, string>(StringComparer.Ordinal)
        {
            [StepCount] = optimizer.StepCount.ToString(CultureInfo.InvariantCulture),
        });
    }

    public static void Load(string folder, AdamW optimizer)
    {
        using SafetensorsFile file = SafetensorsFile.Open(Path.Combine(folder, FileName));
        RequireCount(file, 2 * optimizer.Parameters.Count);
        for (int i = 0; i < optimizer.Parameters.Count; i++)
        {
            Read(file, FirstMoment + optimizer.Parameters[i].Name, optimizer.FirstMoments[i]);
            Read(file, SecondMoment + optimizer.Parameters[i].Name, optimizer.SecondMoments[i]);
        }

        optimizer.StepCount = file.Metadata.TryGetValue(StepCount, out string? text) && int.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out int steps)
            ? steps
            : throw new InvalidInputException($"Reading '{file.Path}' failed: its metadata has no {StepCount}; choose another checkpoint.");
    }

    private static void Save(string path, IReadOnlyList<(string Name, Tensor Value)> tensors, IReadOnlyDictionary<string, string>? metadata)
    {
        IEnumerable<SafetensorsEntry> entries = tensors.Select(tensor
            => new SafetensorsEntry(tensor.Name, SafetensorsType.F32, [.. tensor.Value.Shape.ToArray().Select(extent => (long)extent)]));
        using var writer = new SafetensorsWriter(path, entries, metadata);
        foreach ((string name, Tensor value) in tensors)
        {
            writer.Write(name, value);
        }

        writer.Commit();
    }

    private static void RequireCount(SafetensorsFile file, int expected)
    {
        if (file.Count != expected)
        {
            throw new InvalidInputException($"Reading '{file.Path}' failed: it holds {file.Count} tensors where this model has {expected}; resume with the recipe the run was begun with.");
        }
    }

    private static void Read(SafetensorsFile file, string name, Tensor destination)
    {
        SafetensorsEntry entry = file[name];
        if (entry.Type != SafetensorsType.F32 || !entry.Shape.SequenceEqual(destination.Shape.ToArray().Select(extent => (long)extent)))
        {
            throw new InvalidInputException(
                $"Reading '{file.Path}' failed: {name} is {entry.Type} [{string.Join(", ", entry.Shape)}] where this model has F32 {destination.Shape}; resume with the recipe the run was begun with.");
        }

        file.Read(entry, destination);
    }
}
