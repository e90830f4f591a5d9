using System.Text.Json;
using ExactFlow.Testing;

namespace ExactFlow.Cli.Tests;

public sealed class SmnistTests : IDisposable
{
    private readonly TemporaryFolder data = new();
    private readonly TemporaryFolder folder = new();

    public void Dispose()
    {
        data.Dispose();
        folder.Dispose();
    }

    [Fact]
    public void A_study_is_run_widened_and_shown_and_other_settings_are_refused()
    {
        IdxSamples.Write(data, 6, 2);
        Run("--rules", "efla", "--seeds", "2").ShouldSucceed();
        CliResult wider = Run("--rules", "efla,deltanet", "--seeds", "2", "--json").ShouldSucceed();
        JsonElement[] runs = [.. JsonDocument.Parse(wider.Output).RootElement.GetProperty("runs").EnumerateArray()];
        Assert.Equal(["deltanet lr=0.003 seed=42", "deltanet lr=0.003 seed=43", "efla lr=0.003 seed=42", "efla lr=0.003 seed=43"], runs.Select(run => run.GetProperty("run").GetString()!).Order(StringComparer.Ordinal));
        Assert.Contains("4 runs, 2 of them finished before", wider.Error, StringComparison.Ordinal);
        Assert.Equal(1 + (4 * 33), File.ReadLines(folder["study/results.csv"]).Count());

        CliInProcess.Run(CudaTestDevices.Emulated, ["smnist", "report", folder["study"]]).ShouldSucceed();
        Assert.Contains("| efla | ", File.ReadAllText(folder["study/summary.md"]), StringComparison.Ordinal);
        Assert.All((string[])["report.html", "loss.svg", "intensity.svg", "noise.svg", "dropout.svg", "accuracy-by-rate.svg", "loss-by-rate.svg"], file => Assert.True(File.Exists(folder["study/" + file]), file));

        string before = File.ReadAllText(folder["study/results.jsonl"]);
        Run("--rules", "efla", "--epochs", "2").ShouldBeRefused("holds this study with other settings", "epochs");
        Run("--rules", "efla", "--test-limit", "1").ShouldBeRefused("other settings");
        Assert.Equal(before, File.ReadAllText(folder["study/results.jsonl"]));
    }

    [Fact]
    public void What_cannot_be_used_is_refused_before_anything_is_written()
    {
        Run("--rules", "efla").ShouldBeRefused("lacks the MNIST file train-images-idx3-ubyte", "exactflow data get mnist");
        IdxSamples.Write(data, 6, 2);
        Run("--rules", "elfa").ShouldBeRefused("--rules", "did you mean efla?");
        Run("--rules", "efla", "--lr", "0").ShouldBeRefused("--lr", "above 0");
        Run("--rules", "efla", "--limit", "7").ShouldBeRefused("7 images were asked for", "holds 6");
        Run("--rules", "efla", "--device", "cpu,cpu").ShouldBeRefused("--device", "--parallel");
        CliInProcess.Run(CudaTestDevices.Emulated, ["smnist", "report", folder.Path]).ShouldBeRefused("no study");
        CliInProcess.Run(CudaTestDevices.Emulated, ["data", "get", "cifar", "--out", folder.Path]).ShouldBeRefused("no data set 'cifar'", "mnist");
        CliInProcess.Run(CudaTestDevices.Emulated, ["data", "get", "mnist", "--out", folder.Path, "--mirror", "ftp://x"]).ShouldBeRefused("--mirror", "http://");
        Assert.Empty(Directory.GetFileSystemEntries(folder.Path));
        File.WriteAllText(folder["mine"], "text");
        CliInProcess.Run(CudaTestDevices.Emulated, ["smnist", "run", "--data", data.Path, "--out", folder.Path]).ShouldBeRefused("holds something else");
        Assert.Equal([folder["mine"]], Directory.GetFileSystemEntries(folder.Path));
    }

    private CliResult Run(params string[] words)
        => CliInProcess.Run(CudaTestDevices.Emulated, ["smnist", "run", "--data", data.Path, "--out", folder["study"], .. words.Contains("--lr") ? Array.Empty<string>() : ["--lr", "3e-3"], .. words]);
}
