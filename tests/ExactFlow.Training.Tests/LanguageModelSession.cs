using System.Text;
using ExactFlow.Tensors;
using ExactFlow.Tensors.Randomness;
using ExactFlow.Training.Data;
using ExactFlow.Training.Options;
using ExactFlow.Training.Runs;

namespace ExactFlow.Training.Tests;

/// <summary>A small language model being trained on made-up words, on a device of the test's choice, which it takes over.</summary>
internal sealed class LanguageModelSession : IDisposable
{
    private static readonly string[] Words = ["the", "state", "of", "a", "flow", "decays", "while", "keys", "write", "values", "into", "it", "and", "queries", "read", "them"];

    private static readonly string[] Small =
    [
        "steps=4", "model.hidden=64", "model.layers=1", "model.heads=1", "data.vocabulary=280", "data.sequence_length=70", "data.batch_size=2",
        "evaluation.every=0", "evaluation.windows=2", "evaluation.sample_tokens=0", "checkpoints.every=0", "checkpoints.keep_best=false",
        "optimizer.warm_up_steps=2", "optimizer.learning_rate=0.02", "optimizer.start_learning_rate=0.01",
    ];

    private readonly TemporaryFolder? ownFolder;
    private readonly LanguageModelRun run;

    public LanguageModelSession(Device device, TrainingOptions options, TemporaryFolder? folder = null)
    {
        ownFolder = folder is null ? new TemporaryFolder() : null;
        string path = (folder ?? ownFolder)!.Path;
        TokenizedText text = TokenizedText.Prepare(options.Data, new TextCorpus("made-up words", Document(1, 2000), Document(3, 200), 1, 1), Path.Combine(path, "tokenizer.json"), options.Seed, threads: 2);
        run = new LanguageModelRun(options, text, device, path, Observer);
    }

    public RecordingObserver Observer { get; } = new();

    public Trainer Trainer => run.Trainer;

    public LanguageModelTask Task => run.Task;

    public Device Device => run.Device;

    public RunFolder Folder => run.Folder;

    public static TrainingOptions Options(params IEnumerable<string> settings) => OptionsJson.Load<TrainingOptions>(null, [.. Small, .. settings]);

    /// <summary>Trains from the beginning to the end.</summary>
    public LanguageModelSession Train()
    {
        Trainer.Begin();
        Trainer.Run(CancellationToken.None);
        return this;
    }

    public double[] Losses() => [.. Observer.Steps.Select(step => step.Loss)];

    public float[][] Weights() => [.. Task.Parameters.Select(parameter => parameter.Value.ToHost<float>())];

    public string Metrics()
    {
        using var stream = new FileStream(Folder["metrics.jsonl"], FileMode.Open, FileAccess.Read, FileShare.ReadWrite);
        return new StreamReader(stream).ReadToEnd();
    }

    public void Dispose()
    {
        run.Dispose();
        ownFolder?.Dispose();
    }

    private static ReadOnlyMemory<byte> Document(int seed, int words)
    {
        var random = new Philox((ulong)seed, 9);
        return Encoding.UTF8.GetBytes(string.Join(' ', Enumerable.Range(0, words).Select(i => Words[random.Below((ulong)i, Words.Length)])) + ".\n");
    }
}
