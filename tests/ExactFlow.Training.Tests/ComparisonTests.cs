using System.IO.Compression;
using System.Text;
using System.Text.Json;
using ExactFlow.Models;
using ExactFlow.Tensors;
using ExactFlow.Tensors.Randomness;
using ExactFlow.Training.Data;
using ExactFlow.Training.Options;
using ExactFlow.Training.Report;

namespace ExactFlow.Training.Tests;

public class ComparisonTests
{
    private static readonly string[] Words = ["the", "state", "of", "a", "flow", "decays", "while", "keys", "write", "values", "into", "it", "and", "queries", "read", "them"];

    private static readonly string[] Small =
    [
        "seeds=3,4", "turn=2", "training.steps=7", "training.model.hidden=32", "training.model.layers=1", "training.model.heads=2", "training.data.vocabulary=300",
        "training.data.sequence_length=24", "training.data.batch_size=2", "training.evaluation.every=3", "training.evaluation.windows=3", "training.evaluation.sample_every=5",
        "training.evaluation.sample_tokens=4", "training.checkpoints.every=3", "training.optimizer.warm_up_steps=2",
    ];

    private static ReadOnlyMemory<byte> Document(int seed, int words)
    {
        var random = new Philox((ulong)seed, 9);
        return Encoding.UTF8.GetBytes(string.Join(' ', Enumerable.Range(0, words).Select(i => Words[random.Below((ulong)i, Words.Length)])) + ".\n");
    }

    private static TextCorpus Text() => new("made-up words", Document(1, 1200), Document(3, 200), 1, 1);

    private static ComparisonOptions Options(params string[] settings) => OptionsJson.Load<ComparisonOptions>(null, [.. Small, .. settings]);

    [Fact]
    public void Rules_are_trained_alike_measured_and_written_down()
    {
        using var folder = new TemporaryFolder();
        var observer = new QuietComparison();
        ComparisonOptions options = Options();
        ComparisonResult result = new Comparison(options, Text(), folder.Path, observer, threads: 2).Run(CancellationToken.None)!;

        Assert.Equal(["efla", "deltanet"], result.Rules.Select(rule => rule.Rule));
        Assert.All(result.Rules, rule => Assert.Equal([3, 4], rule.Seeds.Select(seed => seed.Seed)));
        Assert.Equal(result.Rules[0].Parameters, result.Rules[1].Parameters);
        foreach (SeedResult seed in result.Rules.SelectMany(rule => rule.Seeds))
        {
            Assert.InRange(seed.ValidationLoss, 3, 7);
            Assert.Equal(Math.Exp(seed.ValidationLoss), seed.Perplexity, 1e-9);
            Assert.InRange(seed.BitsPerByte, 0.5, 8);
            Assert.True(seed is { TokensPerSecond: > 0, PeakBytes: > 0, SkippedSteps: 0 });
        }

        // Equal but for the rule: all initial weights agree, which the loss before any update shows to within what the rules themselves differ.
        double[] first = [.. options.Rules.Select(rule => FirstLoss(Path.Combine(folder.Path, $"{rule}-seed3")))];
        Assert.NotEqual(first[0], first[1]);
        Assert.Equal(first[0], first[1], 0.02);

        using JsonDocument written = JsonDocument.Parse(File.ReadAllText(folder["results.json"]));
        Assert.Equal(result.Rules[1].Seeds[1].BitsPerByte, written.RootElement.GetProperty("rules")[1].GetProperty("seeds")[1].GetProperty("bits_per_byte").GetDouble());
        Assert.Equal(Brotli(Text().Validation), result.BrotliBitsPerByte, 1e-12);
        string report = RunReport.Write(folder.Path, options, result, "made-up words", "a command");
        Assert.Contains("deltanet", File.ReadAllText(report), StringComparison.Ordinal);
        Assert.Equal(["learning the tokenizer and encoding the text", "training", "scoring the whole validation text", "training", "scoring the whole validation text", "compressing the validation text with Brotli"], observer.Stages);
    }

    [Fact]
    public void A_stopped_comparison_goes_on_and_ends_with_the_same_figures()
    {
        using var broken = new TemporaryFolder();
        using var unbroken = new TemporaryFolder();
        using var stop = new CancellationTokenSource();
        var interrupting = new QuietComparison { AfterStep = (rule, seed, step) => CancelAt(stop, rule == "deltanet" && seed == 3 && step == 5) };
        Assert.Null(new Comparison(Options(), Text(), broken.Path, interrupting, threads: 2).Run(stop.Token));
        ComparisonResult resumed = new Comparison(Options(), Text(), broken.Path, new QuietComparison(), threads: 2).Run(CancellationToken.None)!;
        ComparisonResult straight = new Comparison(Options(), Text(), unbroken.Path, new QuietComparison(), threads: 2).Run(CancellationToken.None)!;

        Assert.Equal(straight.Rules.SelectMany(rule => rule.Seeds).Select(seed => seed.ValidationLoss), resumed.Rules.SelectMany(rule => rule.Seeds).Select(seed => seed.ValidationLoss));
        foreach (string run in (string[])["efla-seed3", "deltanet-seed3", "efla-seed4", "deltanet-seed4"])
        {
            Assert.Equal(File.ReadAllText(Path.Combine(unbroken.Path, run, "metrics.jsonl")), File.ReadAllText(Path.Combine(broken.Path, run, "metrics.jsonl")));
        }
    }

    [Fact]
    public void Rules_take_turns()
    {
        using var folder = new TemporaryFolder();
        var order = new List<string>();
        var observer = new QuietComparison { AfterStep = (rule, _, step) => order.Add($"{rule[0]}{step}") };
        new Comparison(Options("seeds=3", "training.steps=5", "training.evaluation.sample_tokens=0"), Text(), folder.Path, observer).Run(CancellationToken.None);
        Assert.Equal(["e1", "e2", "d1", "d2", "e3", "e4", "d3", "d4", "e5", "d5"], order);
    }

    [Fact]
    public void A_checkpoint_is_a_model_folder()
    {
        using var folder = new TemporaryFolder();
        new Comparison(Options("rules=gated_efla", "seeds=3"), Text(), folder.Path, new QuietComparison()).Run(CancellationToken.None);
        using var device = new CpuDevice(1);
        using LanguageModel model = ModelFolder.Load(device, folder["gated_efla-seed3/checkpoints/step-000007"]);
        Assert.Equal("gated_efla", model.Config.Mixer.Name);
        Assert.Equal(300, model.Config.VocabularySize);
    }

    [Theory]
    [InlineData("rules=efla,efla", "none of them twice")]
    [InlineData("rules=elfa", "elfa")]
    [InlineData("seeds=", "needs rules and seeds")]
    public void What_cannot_be_compared_is_refused_at_once(string setting, string part)
    {
        var error = Assert.Throws<InvalidInputException>(() => new Comparison(Options(setting), Text(), "nowhere", new QuietComparison()));
        Assert.Contains(part, error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_short_text_is_a_sentence()
    {
        using var folder = new TemporaryFolder();
        var text = new TextCorpus("short", Document(1, 900), Document(3, 5), 1, 1);
        var error = Assert.Throws<InvalidInputException>(() => new Comparison(Options(), text, folder.Path, new QuietComparison()).Run(CancellationToken.None));
        Assert.Contains("validation text has", error.Message, StringComparison.Ordinal);
    }

    private static void CancelAt(CancellationTokenSource stop, bool now)
    {
        if (now)
        {
            stop.Cancel();
        }
    }

    private static double FirstLoss(string folder)
        => JsonDocument.Parse(File.ReadLines(Path.Combine(folder, "metrics.jsonl")).First()).RootElement.GetProperty("loss").GetDouble();

    private static double Brotli(ReadOnlyMemory<byte> text)
    {
        using var compressed = new MemoryStream();
        using (var stream = new BrotliStream(compressed, CompressionLevel.SmallestSize, leaveOpen: true))
        {
            stream.Write(text.Span);
        }

        return 8.0 * compressed.Length / text.Length;
    }

    private sealed class QuietComparison : IComparisonObserver
    {
        public List<string> Stages { get; } = [];

        public Action<string, int, int> AfterStep { get; init; } = (_, _, _) => { };

        public void OnStage(string stage) => Stages.Add(stage);

        public void OnText(TokenizedText text)
        {
        }

        public ITrainingObserver Observe(string rule, int seed) => new RecordingObserver { AfterStep = step => AfterStep(rule, seed, step) };
    }
}
