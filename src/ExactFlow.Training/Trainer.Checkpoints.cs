using System.Text.Json.Nodes;
using ExactFlow.Tensors;
using ExactFlow.Training.Checkpoints;
using ExactFlow.Training.Options;

namespace ExactFlow.Training;

/// <content>Saving and resuming.</content>
public sealed partial class Trainer
{
    private int lastCheckpoint = -1;
    private string? dataHash;

    /// <summary>Goes on from a checkpoint: weights, moments, place in the text, logs.</summary>
    /// <param name="checkpoint">
    /// <c>auto</c> takes the newest whole one of the run's folder (damaged ones are passed over with a warning) and begins anew when there is none;
    /// anything else is a checkpoint's folder, or its name within the run.
    /// </param>
    /// <exception cref="InvalidInputException">The named checkpoint is missing or damaged, or belongs to another recipe or text.</exception>
    public void Resume(string checkpoint)
    {
        ArgumentException.ThrowIfNullOrEmpty(checkpoint);
        string? folder = checkpoint == "auto" ? run.Checkpoints.FindNewest(observer.OnWarning) : Locate(checkpoint);
        if (folder is null)
        {
            Begin();
            return;
        }

        TrainingState state = TrainingState.Load(folder);
        RequireSameRun(folder, state);
        task.LoadModel(folder);
        OptimizerFile.Load(folder, optimizer);
        run.RewindLogs(state.LogLengths);
        StepsDone = state.Step;
        position = state.DataPosition;
        updates = state.UpdatesApplied;
        nonFiniteInARow = state.NonFiniteInARow;
        validationLoss = state.ValidationLoss;
        bestValidationLoss = state.BestValidationLoss;
        bestStep = state.BestStep;
        lastCheckpoint = state.Step;
        OpenTensorBoard();
        StartClock();
    }

    private string Locate(string checkpoint)
    {
        string folder = Directory.Exists(checkpoint) ? checkpoint : Path.Combine(run.Checkpoints.Folder, checkpoint);
        CheckpointStore.Verify(folder);
        return folder;
    }

    private void SaveCheckpoint()
    {
        IReadOnlyDictionary<string, long> lengths = run.FlushLogs();
        tensorBoard?.Flush();
        string folder = run.Checkpoints.Save(StepsDone, target =>
        {
            task.SaveModel(target);
            OptimizerFile.Save(target, optimizer);
            Describe(lengths).Save(target);
        });
        lastCheckpoint = StepsDone;
        run.Checkpoints.Prune(options.Checkpoints.KeepLast, options.Checkpoints.KeepBest ? bestStep : null);
        observer.OnCheckpoint(StepsDone, folder);
    }

    private TrainingState Describe(IReadOnlyDictionary<string, long> logLengths) => new()
    {
        Step = StepsDone,
        DataPosition = position,
        UpdatesApplied = updates,
        NonFiniteInARow = nonFiniteInARow,
        ValidationLoss = validationLoss,
        BestValidationLoss = bestValidationLoss,
        BestStep = bestStep,
        LogLengths = logLengths,
        DataHash = dataHash ??= data.ContentHash(),
        Options = ToJson(options),
    };

    private void RequireSameRun(string folder, TrainingState state)
    {
        // A setting that is newer than the checkpoint had its default then.
        JsonObject then = ToJson(OptionsJson.Read<TrainingOptions>(state.Options.ToJsonString(), $"the recipe of the checkpoint '{folder}'", []));
        List<string> changes = [];
        Compare(then, ToJson(options), string.Empty, changes);
        if (changes.Count > 0)
        {
            throw new InvalidInputException(
                $"The checkpoint '{folder}' belongs to a run with other settings ({string.Join("; ", changes)}): restore them, or begin a new run under another name.");
        }

        if (state.DataHash != (dataHash ??= data.ContentHash()))
        {
            throw new InvalidInputException($"The checkpoint '{folder}' was trained on another text or with another tokenizer: give the same text, or begin a new run under another name.");
        }
    }

    private static JsonObject ToJson(TrainingOptions options) => JsonNode.Parse(OptionsJson.Write(options))!.AsObject();

    /// <summary>Lists the settings that differ, apart from those that change neither weights nor metrics.</summary>
    private static void Compare(JsonObject then, JsonObject now, string prefix, List<string> changes)
    {
        foreach (string key in then.Select(pair => pair.Key).Union(now.Select(pair => pair.Key), StringComparer.Ordinal))
        {
            string path = prefix + key;
            if (path is "name" or "checkpoints" or "model.recompute" or "model.recompute_blocks")
            {
                continue;
            }

            if (then[key] is JsonObject before && now[key] is JsonObject after)
            {
                Compare(before, after, path + ".", changes);
            }
            else if (!JsonNode.DeepEquals(then[key], now[key]))
            {
                changes.Add($"{path} was {then[key]?.ToJsonString() ?? "null"} and is {now[key]?.ToJsonString() ?? "null"}");
            }
        }
    }
}
