using System.Text;
using System.Text.Encodings.Web;
using System.Text.Json;
using System.Text.Json.Nodes;
using System.Text.Json.Serialization;
using ExactFlow.Tensors;

namespace ExactFlow.Training.Experiments;

/// <summary>
/// The files of a study's folder. <c>study.json</c> names the study and the settings that all its runs share; <c>results.jsonl</c> holds one object per finished
/// run: <c>run</c>, <c>device</c>, <c>commit</c>, <c>seconds</c>, then what the run measured.
/// </summary>
internal static class StudyFiles
{
    /// <summary>Name and settings.</summary>
    public const string Fingerprint = "study.json";

    /// <summary>Finished runs.</summary>
    public const string Results = "results.jsonl";

    /// <summary>Held open by the process that writes the folder.</summary>
    public const string Lock = "study.lock";

    private const string Study = "study", Settings = "settings", Run = "run", Device = "device", Commit = "commit", Seconds = "seconds";

    private static readonly JsonSerializerOptions Format = new()
    {
        PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower,
        NumberHandling = JsonNumberHandling.AllowNamedFloatingPointLiterals,
        Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping,
    };

    private static readonly JsonSerializerOptions Indented = new(Format) { WriteIndented = true };

    /// <summary>The text of a fingerprint.</summary>
    public static string Describe(string study, object settings)
        => new JsonObject { [Study] = study, [Settings] = JsonSerializer.SerializeToNode(settings, Format) }.ToJsonString(Indented) + "\n";

    /// <summary>The settings that a folder's fingerprint tells, or null where the folder has none.</summary>
    /// <exception cref="InvalidInputException">The folder is another study's, or its fingerprint cannot be read.</exception>
    public static JsonObject? TryReadSettings(string folder, string study)
    {
        string path = Path.Combine(folder, Fingerprint);
        try
        {
            if (!File.Exists(path))
            {
                return null;
            }

            JsonObject found = JsonNode.Parse(File.ReadAllText(path)) as JsonObject ?? throw new JsonException("it is not an object");
            if (found[Study]?.GetValue<string>() is { } name && name != study)
            {
                throw new InvalidInputException($"The folder '{folder}' holds the study '{name}', not '{study}': choose another folder.");
            }

            return found[Settings] as JsonObject ?? throw new JsonException($"it has no {Settings}");
        }
        catch (Exception exception) when (exception is JsonException or InvalidOperationException or IOException or UnauthorizedAccessException)
        {
            throw new InvalidInputException($"The study's description '{path}' cannot be read: {exception.Message.TrimEnd('.')}; restore it, or choose another folder.", exception);
        }
    }

    /// <summary>The first setting that differs, in words; null if none does.</summary>
    public static string? Difference(JsonObject found, object asked)
    {
        JsonObject wanted = JsonSerializer.SerializeToNode(asked, Format)!.AsObject();
        foreach (string name in wanted.Select(pair => pair.Key).Concat(found.Select(pair => pair.Key)).Distinct(StringComparer.Ordinal))
        {
            string before = Text(found, name), now = Text(wanted, name);
            if (before != now)
            {
                return $"{name} is {before} there and {now} now";
            }
        }

        return null;
    }

    /// <summary>A line of the results, without its end.</summary>
    public static string Serialize<TResult>(StudyRecord<TResult> record)
        where TResult : class
    {
        var line = new JsonObject { [Run] = record.Run, [Device] = record.Device, [Commit] = record.Commit, [Seconds] = Math.Round(record.Seconds, 3) };
        foreach ((string name, JsonNode? value) in JsonSerializer.SerializeToNode(record.Result, Format)!.AsObject())
        {
            line.Add(name, value?.DeepClone());
        }

        return line.ToJsonString(Format);
    }

    /// <summary>All whole lines of a results file in their order, and how many bytes they take; a last line without an end, which a killed process may leave, is passed over.</summary>
    /// <exception cref="InvalidInputException">A line is no result, or two are of the same run.</exception>
    public static (List<StudyRecord<TResult>> Records, long Bytes) Read<TResult>(string folder)
        where TResult : class
    {
        string path = Path.Combine(folder, Results);
        if (!File.Exists(path))
        {
            return ([], 0);
        }

        byte[] bytes;
        try
        {
            bytes = File.ReadAllBytes(path);
        }
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException)
        {
            throw new InvalidInputException($"The results '{path}' cannot be read: {exception.Message.TrimEnd('.')}; check the file's permissions.", exception);
        }

        int whole = bytes.AsSpan().LastIndexOf((byte)'\n') + 1;
        var records = new List<StudyRecord<TResult>>();
        var names = new HashSet<string>(StringComparer.Ordinal);
        string[] lines = Encoding.UTF8.GetString(bytes, 0, whole).Split('\n');
        for (int i = 0; i + 1 < lines.Length; i++)
        {
            StudyRecord<TResult> record = Parse<TResult>(lines[i], path, i + 1);
            records.Add(names.Add(record.Run)
                ? record
                : throw new InvalidInputException($"Line {i + 1} of '{path}' is the second result of the run '{record.Run}': remove one of the two."));
        }

        return (records, whole);
    }

    private static StudyRecord<TResult> Parse<TResult>(string line, string path, int number)
        where TResult : class
    {
        try
        {
            using JsonDocument document = JsonDocument.Parse(line);
            JsonElement root = document.RootElement;
            return new StudyRecord<TResult>(
                root.GetProperty(Run).GetString()!,
                root.GetProperty(Device).GetString()!,
                root.GetProperty(Commit).GetString(),
                root.GetProperty(Seconds).GetDouble(),
                root.Deserialize<TResult>(Format)!);
        }
        catch (Exception exception) when (exception is JsonException or KeyNotFoundException or InvalidOperationException)
        {
            throw new InvalidInputException($"Line {number} of '{path}' is not the result of a run of this study ({exception.Message.ReplaceLineEndings(" ").TrimEnd('.')}): remove the line, and the run is done again.", exception);
        }
    }

    private static string Text(JsonObject values, string name) => values.ContainsKey(name) ? values[name]?.ToJsonString(Format) ?? "null" : "not set";
}
