using System.Text.Encodings.Web;
using System.Text.Json;
using System.Text.Json.Nodes;
using System.Text.Json.Serialization;
using ExactFlow.Tensors;
using ExactFlow.Tensors.Files;

namespace ExactFlow.Training.Checkpoints;

/// <summary>Where a run stands, apart from weights and moments: the <c>state.json</c> of a checkpoint.</summary>
/// <remarks>Random numbers are functions of (seed, stream, position), so the seed in the options and the position here are the whole generator state.</remarks>
public sealed record TrainingState
{
    /// <summary>The file's name within the checkpoint.</summary>
    public const string FileName = "state.json";

    private static readonly JsonSerializerOptions Format = new()
    {
        WriteIndented = true,
        PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower,
        UnmappedMemberHandling = JsonUnmappedMemberHandling.Disallow,
        Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping,
    };

    /// <summary>Format version.</summary>
    public int Version { get; init; } = 1;

    /// <summary>Steps done, skipped ones included.</summary>
    public required int Step { get; init; }

    /// <summary>Windows of text dealt so far.</summary>
    public required long DataPosition { get; init; }

    /// <summary>Optimizer updates applied: the steps less the skipped ones.</summary>
    public required int UpdatesApplied { get; init; }

    /// <summary>Steps skipped in a row up to now.</summary>
    public required int NonFiniteInARow { get; init; }

    /// <summary>The best validation loss so far.</summary>
    public double? BestValidationLoss { get; init; }

    /// <summary>The step of the best validation loss.</summary>
    public int? BestStep { get; init; }

    /// <summary>The newest validation loss.</summary>
    public double? ValidationLoss { get; init; }

    /// <summary>Bytes of each log of the run at this point; a resumed run cuts the logs back to them.</summary>
    public required IReadOnlyDictionary<string, long> LogLengths { get; init; }

    /// <summary>SHA-256 of the training text's tokens.</summary>
    public required string DataHash { get; init; }

    /// <summary>The options of the run.</summary>
    public required JsonObject Options { get; init; }

    /// <summary>Reads a checkpoint's state.</summary>
    /// <exception cref="InvalidInputException">The file is missing or not of this version.</exception>
    public static TrainingState Load(string checkpoint)
    {
        string path = Path.Combine(checkpoint, FileName);
        try
        {
            TrainingState? state = JsonSerializer.Deserialize<TrainingState>(File.ReadAllText(path), Format);
            return state is { Version: 1 } ? state : throw new JsonException($"version {state?.Version} where 1 is expected");
        }
        catch (Exception exception) when (exception is JsonException or IOException or UnauthorizedAccessException)
        {
            throw new InvalidInputException($"The state '{path}' of a checkpoint cannot be read: {exception.Message.TrimEnd('.')}; choose another checkpoint.", exception);
        }
    }

    /// <summary>Writes the state into a checkpoint's folder.</summary>
    public void Save(string checkpoint) => AtomicFile.WriteAllText(Path.Combine(checkpoint, FileName), JsonSerializer.Serialize(this, Format) + "\n");
}
