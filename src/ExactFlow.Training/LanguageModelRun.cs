using ExactFlow.Tensors;
using ExactFlow.Training.Options;
using ExactFlow.Training.Runs;

namespace ExactFlow.Training;

/// <summary>One language model being trained in one folder: device, model, folder and trainer, made and released together.</summary>
public sealed class LanguageModelRun : IDisposable
{
    /// <summary>Makes the model and takes the folder; <see cref="Training.Trainer.Begin"/> or <see cref="Training.Trainer.Resume"/> comes next.</summary>
    /// <param name="options">The recipe.</param>
    /// <param name="text">The text.</param>
    /// <param name="device">A device of its own, which this object disposes.</param>
    /// <param name="folder">The run's folder.</param>
    /// <param name="observer">Is told what happens.</param>
    /// <param name="machineFlopsPerSecond">Measured matrix-product rate, or 0.</param>
    /// <exception cref="InvalidInputException">The recipe does not fit together, or the folder is in use.</exception>
    public LanguageModelRun(TrainingOptions options, TokenizedText text, Device device, string folder, ITrainingObserver observer, double machineFlopsPerSecond = 0)
    {
        ArgumentNullException.ThrowIfNull(options);
        ArgumentNullException.ThrowIfNull(text);
        Device = device ?? throw new ArgumentNullException(nameof(device));
        Options = options;
        try
        {
            // A recipe that is refused leaves no folder.
            Task = new LanguageModelTask(device, options, text);
            Folder = new RunFolder(folder);
            Trainer = new Trainer(options, Task, text.Training, Folder, observer, machineFlopsPerSecond);
        }
        catch
        {
            Dispose();
            throw;
        }
    }

    /// <summary>The recipe.</summary>
    public TrainingOptions Options { get; }

    /// <summary>Where the model lives.</summary>
    public Device Device { get; }

    /// <summary>The run's folder.</summary>
    public RunFolder Folder { get; }

    /// <summary>The model and its validation.</summary>
    public LanguageModelTask Task { get; }

    /// <summary>The training loop.</summary>
    public Trainer Trainer { get; }

    /// <summary>Scores the whole validation text and gathers the figures of a finished run.</summary>
    public SeedResult Measure()
    {
        TextScore score = Task.ScoreValidationText();
        return new SeedResult
        {
            Seed = Options.Seed,
            ValidationLoss = score.Loss,
            Perplexity = score.Perplexity,
            BitsPerByte = score.BitsPerByte,
            TokensPerSecond = Trainer.TokensPerStep / RunRecords.MedianMilliseconds(Folder["timings.jsonl"]) * 1e3,
            PeakBytes = Device.Pool.PeakRentedBytes,
            SkippedSteps = Trainer.SkippedSteps,
        };
    }

    /// <summary>Releases everything, the device included.</summary>
    public void Dispose()
    {
        Trainer?.Dispose();
        Task?.Dispose();
        Folder?.Dispose();
        Device.Dispose();
    }
}
