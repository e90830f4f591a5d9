using System.Text.Json;
using ExactFlow.Tensors;
using ExactFlow.Training.Host;
using ExactFlow.Training.Options;
using ExactFlow.Training.Runs;

namespace ExactFlow.Training.Tests;

/// <summary>A trainer of the tiny model with all it needs, on poisoned memory.</summary>
internal sealed class TrainingSession : IDisposable
{
    private readonly TemporaryFolder? ownFolder;

    public TrainingSession(TrainingOptions options, TemporaryFolder? folder = null, int[]? text = null, Device? device = null)
    {
        ownFolder = folder is null ? new TemporaryFolder() : null;
        Device = device ?? new CpuDevice(threads: 2) { PoisonFreshMemory = true };
        Task = new TinyTask(Device, options.Seed, options.Data.SequenceLength);
        Folder = new RunFolder((folder ?? ownFolder)!.Path);
        var stream = new TokenStream(text ?? TinyTask.Text(5_000, 1), options.Data.SequenceLength, (ulong)options.Seed);
        Trainer = new Trainer(options, Task, stream, Folder, Observer, machineFlopsPerSecond: 1e9);
    }

    public Device Device { get; }

    public TinyTask Task { get; }

    public RunFolder Folder { get; }

    public Trainer Trainer { get; }

    public RecordingObserver Observer { get; } = new();

    public float[][] Weights() => [.. Task.Parameters.Select(parameter => parameter.Value.ToHost<float>())];

    public JsonElement[] Lines(string kind) => [.. ReadMetrics().Split('\n', StringSplitOptions.RemoveEmptyEntries)
        .Select(line => JsonDocument.Parse(line).RootElement).Where(line => line.GetProperty("kind").GetString() == kind)];

    public string ReadMetrics()
    {
        using var stream = new FileStream(Folder["metrics.jsonl"], FileMode.Open, FileAccess.Read, FileShare.ReadWrite);
        return new StreamReader(stream).ReadToEnd();
    }

    public void AssertEqual(TrainingSession other)
    {
        Assert.Equal(other.ReadMetrics(), ReadMetrics());
        Assert.Equal(other.Weights(), Weights());
    }

    public void Dispose()
    {
        Trainer.Dispose();
        Folder.Dispose();
        Task.Dispose();
        Device.Dispose();
        ownFolder?.Dispose();
    }
}

/// <summary>Remembers what it is told.</summary>
internal sealed class RecordingObserver : ITrainingObserver
{
    public List<StepRecord> Steps { get; } = [];

    public List<string> Warnings { get; } = [];

    public Action<int> AfterStep { get; set; } = _ => { };

    public void OnStep(in StepRecord step)
    {
        Steps.Add(step);
        AfterStep(step.Step);
    }

    public void OnValidation(int step, ValidationResult result)
    {
    }

    public void OnSample(int step, SampleText sample)
    {
    }

    public void OnCheckpoint(int step, string folder)
    {
    }

    public void OnWarning(string sentence) => Warnings.Add(sentence);
}
