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
