using ExactFlow.Models;
using ExactFlow.Tensors;

namespace ExactFlow.Training.Tests.Checkpoints;

/// <summary>Training that starts from the weights of a plain model folder.</summary>
public sealed class StartingWeightsTests
{
    [Theory]
    [InlineData(0)]
    [InlineData(20_000)]
    public void A_plain_folder_gives_its_weights_bit_for_bit(long shardBytes)
    {
        using var folder = new TemporaryFolder();
        using LanguageModelSession first = new LanguageModelSession(new CpuDevice(2), LanguageModelSession.Options()).Train();
        ModelFolder.Save(first.Task.Model, folder["plain"], shardBytes: shardBytes);
        using var second = new LanguageModelSession(new CpuDevice(2), LanguageModelSession.Options($"model.weights={folder["plain"]}", "seed=7"));
        Assert.Equal(first.Weights(), second.Weights());
        second.Train();
        Assert.True(second.Losses()[0] < first.Losses()[0] - 0.3, "Training did not go on from the weights.");
    }

    /// <summary>A tokenizer of the same size that gives other tokens makes the embeddings meaningless, and no shape tells.</summary>
    [Fact]
    public void Weights_of_another_tokenizer_are_refused()
    {
        using var folder = new TemporaryFolder();
        string own;
        using (var session = new LanguageModelSession(new CpuDevice(2), LanguageModelSession.Options()))
        {
            session.Task.SaveModel(folder["plain"]);
            own = File.ReadAllText(folder["plain/tokenizer.json"]);
        }

        string[] settings = [$"model.weights={folder["plain"]}", "seed=7"];
        new LanguageModelSession(new CpuDevice(2), LanguageModelSession.Options(settings)).Dispose();
        string other = Swap(own, "\"a\":", "\"b\":");
        Assert.NotEqual(own, other);
        File.WriteAllText(folder["plain/tokenizer.json"], other);
        string message = Assert.Throws<InvalidInputException>(() => new LanguageModelSession(new CpuDevice(2), LanguageModelSession.Options(settings))).Message;
        Assert.Contains("another tokenizer", message, StringComparison.Ordinal);
        Assert.Contains("is 'b' there and 'a' here", message, StringComparison.Ordinal);

        static string Swap(string text, string one, string other)
            => text.Replace(one, "\0", StringComparison.Ordinal).Replace(other, one, StringComparison.Ordinal).Replace("\0", other, StringComparison.Ordinal);
    }

    [Fact]
    public void Weights_of_another_rule_or_size_are_refused()
    {
        using var folder = new TemporaryFolder();
        using (var session = new LanguageModelSession(new CpuDevice(2), LanguageModelSession.Options()))
        {
            ModelFolder.Save(session.Task.Model, folder["plain"]);
        }

        Refused("are of efla", "model.rule=deltanet");
        Refused("is missing", "model.layers=2");
        Refused("does not exist", $"model.weights={folder["absent"]}");

        void Refused(string expected, string setting)
            => Assert.Contains(
                expected,
                Assert.Throws<InvalidInputException>(() => new LanguageModelSession(new CpuDevice(2), LanguageModelSession.Options($"model.weights={folder["plain"]}", setting))).Message,
                StringComparison.Ordinal);
    }
}
