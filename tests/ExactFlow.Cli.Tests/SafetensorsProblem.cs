using ExactFlow.Tensors.Files;
using ExactFlow.Tensors.Randomness;

namespace ExactFlow.Cli.Tests;

/// <summary>A small input file for <c>exactflow op</c> that tests bend until it no longer fits.</summary>
internal sealed class SafetensorsProblem
{
    private readonly Dictionary<string, long[]> shapes = new(StringComparer.Ordinal);
    private readonly Dictionary<string, string> metadata = new(StringComparer.Ordinal) { ["rule"] = "efla", ["scale"] = "0.5" };
    private long[]? offsets;

    /// <summary>Batch 1, 5 tokens, 2 heads, K = 3, V = 4, with every tensor but cu_seqlens.</summary>
    public static SafetensorsProblem Small()
    {
        var problem = new SafetensorsProblem();
        problem.shapes["q"] = [1, 5, 2, 3];
        problem.shapes["k"] = [1, 5, 2, 3];
        problem.shapes["v"] = [1, 5, 2, 4];
        problem.shapes["beta"] = [1, 5, 2];
        problem.shapes["log_decay"] = [1, 5, 2];
        problem.shapes["initial_state"] = [1, 2, 3, 4];
        problem.shapes["grad_output"] = [1, 5, 2, 4];
        problem.shapes["grad_final_state"] = [1, 2, 3, 4];
        return problem;
    }

    public SafetensorsProblem Without(string tensor)
    {
        shapes.Remove(tensor);
        return this;
    }

    public SafetensorsProblem WithShape(string tensor, params long[] shape)
    {
        shapes[tensor] = shape;
        return this;
    }

    public SafetensorsProblem WithLastExtentGrown(string tensor)
    {
        shapes[tensor][^1]++;
        return this;
    }

    public SafetensorsProblem WithOffsets(params long[] values)
    {
        offsets = values;
        return this;
    }

    public SafetensorsProblem WithMetadata(string key, string? value)
    {
        metadata.Remove(key);
        if (value is not null)
        {
            metadata[key] = value;
        }

        return this;
    }

    public void Write(string path)
    {
        IEnumerable<SafetensorsEntry> entries = shapes.Select(shape => new SafetensorsEntry(shape.Key, SafetensorsType.F32, shape.Value));
        if (offsets is not null)
        {
            entries = entries.Append(new SafetensorsEntry("cu_seqlens", SafetensorsType.I64, [offsets.Length]));
        }

        using var writer = new SafetensorsWriter(path, entries, metadata);
        foreach ((string name, long[] shape) in shapes)
        {
            var values = new float[shape.Aggregate(1L, (count, extent) => count * extent)];
            new Philox(7, Philox.StreamOf(name)).FillUniform(values, 0, 1);
            writer.Write<float>(name, values);
        }

        if (offsets is not null)
        {
            writer.Write<long>("cu_seqlens", offsets);
        }

        writer.Commit();
    }
}
