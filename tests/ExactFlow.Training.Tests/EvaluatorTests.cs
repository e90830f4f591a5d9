using ExactFlow.Models;
using ExactFlow.Tensors;
using ExactFlow.Tensors.Randomness;

namespace ExactFlow.Training.Tests;

public class EvaluatorTests
{
    private const int Vocabulary = 50;

    private static LanguageModel Model(CpuDevice device, string mixer)
        => new(device, LanguageModelConfig.Create(MixerKind.Parse(mixer), Vocabulary, 32, 2, 2));

    private static int[] Text(int length) => [.. Enumerable.Range(0, length).Select(i => new Philox(3, 0).Below((ulong)i, Vocabulary))];

    private static int[] ByteCounts() => [.. Enumerable.Range(0, Vocabulary).Select(id => id % 5)];

    /// <summary>The whole text in one pass, nothing carried.</summary>
    private static double[] Losses(LanguageModel model, int[] text)
    {
        using var step = model.Device.BeginStep(recordGradients: false);
        Shape shape = [1, text.Length - 1];
        float[] losses = model.TokenLosses(model.Device.From<int>(text.AsSpan(..^1), shape), model.Device.From<int>(text.AsSpan(1..), shape)).ToHost<float>();
        return [.. losses.Select(loss => (double)loss)];
    }

    [Theory]
    [InlineData("efla")]
    [InlineData("deltanet")]
    [InlineData("gated_efla")]
    [InlineData("mamba2")]
    public void Carried_state_predicts_every_token_from_all_before_it(string mixer)
    {
        using var device = new CpuDevice(2) { PoisonFreshMemory = true };
        using LanguageModel model = Model(device, mixer);
        int[] text = Text(203);
        double whole = Losses(model, [7, .. text]).Sum();
        var evaluator = new Evaluator(model, ByteCounts());

        foreach (int window in (int[])[2, 63, 64, 65, 1024])
        {
            TextScore score = evaluator.Score(text, context: 7, window);
            Assert.Equal(203, score.Tokens);
            Assert.Equal(text.Sum(id => id % 5), score.Bytes);

            // 203 losses of about 4 nats, each rounded to float32 and computed in another order of sums.
            Assert.Equal(whole, score.Nats, 203 * 4e-6);
        }
    }

    [Fact]
    public void Without_a_context_the_first_token_is_not_predicted()
    {
        using var device = new CpuDevice(1);
        using LanguageModel model = Model(device, "efla");
        int[] text = Text(10);
        TextScore score = new Evaluator(model, ByteCounts()).Score(text, context: null);
        Assert.Equal(9, score.Tokens);
        Assert.Equal(text.Skip(1).Sum(id => id % 5), score.Bytes);
        Assert.Throws<InvalidInputException>(() => new Evaluator(model, ByteCounts()).Score(text.AsSpan(..1), context: null));
    }

    [Theory]
    [InlineData("softmax_attention", 101)]
    [InlineData("efla", 101)]
    [InlineData("efla", 121)]
    [InlineData("efla", 41)]
    [InlineData("efla", 23)]
    public void Sliding_windows_predict_each_token_once(string mixer, int length)
    {
        using var device = new CpuDevice(2) { PoisonFreshMemory = true };
        using LanguageModel model = Model(device, mixer);
        int[] all = Text(length);
        var evaluator = new Evaluator(model, ByteCounts());
        Assert.Equal(Losses(model, all).Sum(), evaluator.Score(all, null, window: 200, carryState: false).Nats, 1e-3);

        // Windows of 40 begin at 0, 20, 40, ...; all but the first predict what comes after their first 20.
        double expected = Losses(model, all[..Math.Min(41, length)]).Sum();
        for (int start = 20; start + 21 < length; start += 20)
        {
            expected += Losses(model, all[start..Math.Min(start + 41, length)]).Skip(20).Sum();
        }

        TextScore score = evaluator.Score(all, null, window: 40, carryState: false);
        Assert.Equal(length - 1, score.Tokens);
        Assert.Equal(all.Skip(1).Sum(id => id % 5), score.Bytes);
        Assert.Equal(expected, score.Nats, 1e-3);
    }

    [Fact]
    public void Windows_are_scored_alike_whatever_the_batch()
    {
        using var device = new CpuDevice(2);
        using LanguageModel model = Model(device, "efla");
        var text = new TokenStream(Text(501), 25, 0);
        var evaluator = new Evaluator(model, ByteCounts());
        TextScore one = evaluator.ScoreWindows(text, 7, batchSize: 1);
        TextScore four = evaluator.ScoreWindows(text, 7, batchSize: 4);
        Assert.Equal(175, one.Tokens);
        Assert.Equal(one.Bytes, four.Bytes);
        Assert.Equal(one.Nats, four.Nats, 1e-3);
        Assert.Equal(500, evaluator.ScoreWindows(text, 1000, 8).Tokens);
    }

    [Fact]
    public void Figures_follow_from_nats_tokens_and_bytes()
    {
        var score = new TextScore(Tokens: 4, Bytes: 10, Nats: 8);
        Assert.Equal(2, score.Loss);
        Assert.Equal(7.38905609893065, score.Perplexity, 1e-12);
        Assert.Equal(1.1541560327111708, score.BitsPerByte, 1e-12);
        Assert.Equal(2.225540928492468, score.BytePerplexity, 1e-12);
    }

    [Fact]
    public void A_foreign_tokenizer_is_refused()
    {
        using var device = new CpuDevice(1);
        using LanguageModel model = Model(device, "efla");
        var error = Assert.Throws<InvalidInputException>(() => new Evaluator(model, new int[51]));
        Assert.Contains("51 tokens", error.Message, StringComparison.Ordinal);
    }
}
