using System.Text.Json.Nodes;
using ExactFlow.Models.Layers;
using ExactFlow.Tensors;
using ExactFlow.Tensors.Files;

namespace ExactFlow.Models;

/// <summary>The safetensors files of a model, open: every tensor is compared with what the model wants before the first value is touched.</summary>
internal sealed class WeightSource : IDisposable
{
    private readonly IReadOnlyList<SafetensorsFile> files;
    private readonly string name;

    private WeightSource(IReadOnlyList<SafetensorsFile> files, string name)
    {
        this.files = files;
        this.name = name;
    }

    /// <summary>Opens weights in one file.</summary>
    /// <exception cref="InvalidInputException">The file is missing or damaged.</exception>
    public static WeightSource Open(string path) => new([SafetensorsFile.Open(path)], path);

    /// <summary>Opens the files that an index names, which lie beside it.</summary>
    /// <exception cref="InvalidInputException">The index or a file is missing or damaged.</exception>
    public static WeightSource OpenSharded(string indexPath)
    {
        ArgumentNullException.ThrowIfNull(indexPath);
        string folder = Path.GetDirectoryName(Path.GetFullPath(indexPath))!;
        List<SafetensorsFile> shards = [];
        try
        {
            foreach (string shard in ShardNames(indexPath))
            {
                shards.Add(SafetensorsFile.Open(Path.Combine(folder, shard)));
            }

            return new WeightSource(shards, indexPath);
        }
        catch
        {
            shards.ForEach(shard => shard.Dispose());
            throw;
        }
    }

    /// <summary>The files that an index names.</summary>
    /// <exception cref="InvalidInputException">The index is missing or damaged.</exception>
    public static SortedSet<string> ShardNames(string indexPath)
    {
        JsonNode? map = JsonFields.Parse(TextFile.Read(indexPath), indexPath).Rest()["weight_map"];
        var names = new SortedSet<string>(StringComparer.Ordinal);
        foreach ((string tensor, JsonNode? value) in map as JsonObject ?? throw new InvalidInputException($"{indexPath} has no object 'weight_map' that names the file of each tensor."))
        {
            if (value is not JsonValue text || !text.TryGetValue(out string? file) || file.Length == 0 || Path.GetFileName(file) != file)
            {
                throw new InvalidInputException($"{indexPath} gives '{value}' as the file of tensor '{tensor}', which must be the plain name of a file beside it.");
            }

            names.Add(file);
        }

        return names;
    }

    /// <summary>Reads all weights into a model that has some.</summary>
    /// <exception cref="InvalidInputException">The tensors are not exactly those of the model; then nothing was changed.</exception>
    public void ReadInto(LanguageModel model)
    {
        ArgumentNullException.ThrowIfNull(model);
        Read(Match(model.Layout, model.Config), model.Device);
        model.RefreshWeights();
    }

    /// <summary>Gives every parameter of a layout its value: mapped, where that is asked for and can be, and read otherwise.</summary>
    /// <exception cref="InvalidInputException">The tensors are not exactly those of the model; then nothing was allocated.</exception>
    public void Supply(ParameterLayout layout, Device device, LanguageModelConfig config, bool mapped)
    {
        List<Place> places = Match(layout, config);
        if (mapped && device is CpuDevice cpu)
        {
            places = Map(places, cpu);
        }

        places.ForEach(place => place.Parameter.Allocate(device));
        Read(places, device);
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        foreach (SafetensorsFile file in files)
        {
            file.Dispose();
        }
    }

    /// <summary>Maps what can be mapped and returns the rest.</summary>
    private static List<Place> Map(List<Place> places, CpuDevice device)
    {
        List<Place> rest = [];
        foreach (IGrouping<SafetensorsFile, Place> group in places.GroupBy(place => place.File))
        {
            using SafetensorsMapping? mapping = group.Key.TryMap();
            foreach (Place place in group)
            {
                if (mapping?.TryTensor(device, place.Entry, place.Parameter.Shape) is { } tensor)
                {
                    place.Parameter.Adopt(tensor);
                }
                else
                {
                    rest.Add(place);
                }
            }
        }

        return rest;
    }

    /// <summary>Values go from the file straight into the weights; on the CPU several tensors at a time, for half of the work is touching memory for the first time.</summary>
    private static void Read(List<Place> places, Device device)
    {
        if (device is not CpuDevice)
        {
            places.ForEach(ReadOne);
            return;
        }

        try
        {
            Parallel.ForEach(places, ReadOne);
        }
        catch (AggregateException exception) when (exception.InnerExceptions[0] is InvalidInputException first)
        {
            throw new InvalidInputException(first.Message, first);
        }

        static void ReadOne(Place place) => place.File.Read(place.Entry, place.Parameter.Value);
    }

    /// <summary>Where each parameter of a layout is.</summary>
    private List<Place> Match(ParameterLayout layout, LanguageModelConfig config)
    {
        Dictionary<string, (SafetensorsFile File, SafetensorsEntry Entry)> found = Collect(out List<string> problems);
        List<Place> places = [];
        foreach (ModelParameter parameter in layout.Parameters)
        {
            if (!found.Remove(parameter.Name, out (SafetensorsFile File, SafetensorsEntry Entry) place))
            {
                problems.Add($"{parameter.Name} {parameter.FileShape} is missing");
            }
            else if (!place.Entry.Shape.SequenceEqual(ModelWeights.Extents(parameter.FileShape)))
            {
                problems.Add($"{parameter.Name} is [{string.Join(", ", place.Entry.Shape)}] instead of {parameter.FileShape}");
            }
            else if (place.Entry.Type is not (SafetensorsType.F64 or SafetensorsType.F32 or SafetensorsType.F16 or SafetensorsType.BF16))
            {
                problems.Add($"{parameter.Name} holds {place.Entry.Type.FileName()} instead of F32, F16, BF16 or F64");
            }

            places.Add(new Place(parameter, place.File, place.Entry));
        }

        problems.AddRange(found.Keys.Order(StringComparer.Ordinal).Select(extra => $"{extra} is not a tensor of this model"));
        return problems.Count == 0
            ? places
            : throw new InvalidInputException($"The weights in {name} do not fit the model ({config.Mixer}, {layout.Parameters.Count} tensors): {string.Join("; ", problems)}. Nothing was loaded.");
    }

    private Dictionary<string, (SafetensorsFile File, SafetensorsEntry Entry)> Collect(out List<string> problems)
    {
        problems = [];
        var found = new Dictionary<string, (SafetensorsFile, SafetensorsEntry)>(StringComparer.Ordinal);
        foreach (SafetensorsFile file in files)
        {
            foreach (SafetensorsEntry entry in file.Entries)
            {
                if (!found.TryAdd(entry.Name, (file, entry)))
                {
                    problems.Add($"{entry.Name} is in more than one file");
                }
            }
        }

        return found;
    }

    /// <summary>A parameter and its tensor.</summary>
    private readonly record struct Place(ModelParameter Parameter, SafetensorsFile File, SafetensorsEntry Entry);
}
