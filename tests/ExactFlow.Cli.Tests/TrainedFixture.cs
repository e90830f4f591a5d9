using ExactFlow.Testing;

namespace ExactFlow.Cli.Tests;

/// <summary>A folder with <c>text.txt</c> and a model trained on it for a few steps, <c>runs/first</c>, shared by the tests of a class.</summary>
public sealed class TrainedFixture : IDisposable
{
    private readonly TemporaryFolder folder = new();

    public TrainedFixture()
    {
        TinyText.Write(folder["text.txt"]);
        Training = CliProcess.Run(folder.Path, ["train", "--name", "first", "--text", "text.txt", "--steps", "20", .. TinyText.Settings()]).ShouldSucceed();
    }

    /// <summary>The folder.</summary>
    public string Folder => folder.Path;

    /// <summary>What training said.</summary>
    internal CliResult Training { get; }

    /// <summary>The path of something in the folder.</summary>
    public string this[string name] => folder[name];

    /// <inheritdoc/>
    public void Dispose() => folder.Dispose();
}
