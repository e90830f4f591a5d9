using System.Text.Json;
using ExactFlow.Tensors.Files;
using ExactFlow.Testing;

namespace ExactFlow.Cli.Tests;

/// <summary>Commands with <c>--device cuda</c>, on the emulated GPU and on a real one where there is one.</summary>
public sealed class GpuCommandTests : IDisposable
{
    private static readonly string References = Path.Combine(AppContext.BaseDirectory, "Reference");
    private readonly TemporaryFolder folder = new();

    public static TheoryData<string> Devices => [.. CudaTestDevices.Names];

    public static TheoryData<string, string> Vectors => [.. CudaTestDevices.Names.SelectMany(
        _ => Directory.EnumerateFiles(References, "*.safetensors").Select(path => Path.GetFileName(path)).Order(StringComparer.Ordinal), (device, file) => new TheoryDataRow<string, string>(device, file))];

    public void Dispose() => folder.Dispose();

    [Theory]
    [MemberData(nameof(Vectors))]
    public void Op_reproduces_every_reference_vector_in_float32(string device, string name)
    {
        using SafetensorsFile expected = SafetensorsFile.Open(Path.Combine(References, name));
        CliInProcess.Run(device, "op", "--input", expected.Path, "--output", folder["out.safetensors"], "--device", "cuda").ShouldSucceed();
        using SafetensorsFile actual = SafetensorsFile.Open(folder["out.safetensors"]);
        OpTests.AssertClose(expected, actual, 2e-5, "output", "final_state");
        OpTests.AssertClose(expected, actual, 1e-4, "grad_q", "grad_k", "grad_v", "grad_beta", "grad_log_decay", "grad_initial_state");
    }

    [Theory]
    [InlineData("emulated", "efla_head128.safetensors")]
    [InlineData("emulated", "gated_efla.safetensors")]
    [InlineData("cuda", "efla_head128.safetensors")]
    [InlineData("cuda", "gated_efla.safetensors")]
    public void Op_in_bfloat16_is_as_close_as_its_format(string device, string name)
    {
        using SafetensorsFile expected = SafetensorsFile.Open(Path.Combine(References, name));
        CliInProcess.Run(device, "op", "--input", expected.Path, "--output", folder["out.safetensors"], "--device", "cuda", "--precision", "bfloat16").ShouldSucceed();
        using SafetensorsFile actual = SafetensorsFile.Open(folder["out.safetensors"]);
        OpTests.AssertClose(expected, actual, 5e-3, "output", "final_state");
        OpTests.AssertClose(expected, actual, 1e-2, "grad_q", "grad_k", "grad_v", "grad_beta", "grad_log_decay", "grad_initial_state");
    }

    [Theory]
    [MemberData(nameof(Devices))]
    public void Compare_ends_with_a_table_samples_and_a_report_that_names_the_gpu(string device)
    {
        TinyText.Write(folder["text.txt"]);
        CliResult result = CliInProcess.Run(
            device, ["compare", "--text", folder["text.txt"], "--runs", folder["runs"], "--steps", "3", "--rules", "efla,softmax_attention", "--device", "cuda", .. TinyText.Settings("training.")]).ShouldSucceed();
        Assert.Matches(@"\n *efla +[\d,]+ +\d+\.\d{4} +\d+\.\d\d +\d+\.\d{4} +[\d,]+ +[\d.]+ MiB", result.Output);
        Assert.Matches(@"softmax_attention continues ""The"": ", result.Output);
        Assert.Contains("cuda:0: ", File.ReadAllText(folder["runs/compare/report.html"]), StringComparison.Ordinal);
    }

    [Theory]
    [MemberData(nameof(Devices))]
    public void A_model_trained_on_a_gpu_is_evaluated_and_continued_there_and_on_the_cpu(string device)
    {
        TinyText.Write(folder["text.txt"]);
        CliInProcess.Run(
            device, ["train", "--name", "first", "--text", folder["text.txt"], "--runs", folder["runs"], "--steps", "3", "--precision", "float32", "--device", "cuda", .. TinyText.Settings()]).ShouldSucceed();
        string[] text = ["--text", folder["held-out.txt"], "--model", folder["runs/first"]];
        File.WriteAllText(folder["held-out.txt"], string.Concat(Enumerable.Repeat("the flow of a state is exact and every key decays ", 4)));
        double[] losses = [.. ((string[])["cpu", "cuda"]).Select(where => Loss(CliInProcess.Run(device, ["eval", .. text, "--precision", "float32", "--device", where, "--json"])))];
        Assert.Equal(losses[0], losses[1], 1e-4 * losses[0]);
        Assert.Equal(losses[0], Loss(CliInProcess.Run(device, ["eval", .. text, "--device", "cuda", "--json"])), 2e-2 * losses[0]);

        string[] generate = ["generate", "--model", folder["runs/first"], "--prompt", "the flow", "--tokens", "5", "--temperature", "0", "--precision", "float32", "--json", "--device"];
        string[] texts = [.. ((string[])["cpu", "cuda"]).Select(where => Text(CliInProcess.Run(device, [.. generate, where])))];
        Assert.Equal(texts[0], texts[1]);
    }

    [Theory]
    [MemberData(nameof(Devices))]
    public void What_a_device_does_not_compute_in_is_refused(string device)
    {
        string file = Path.Combine(References, "efla.safetensors");
        string[] op = ["op", "--input", file, "--output", folder["out.safetensors"]];
        CliInProcess.Run(device, [.. op, "--device", "cuda", "--precision", "float64"]).ShouldBeRefused("cuda:0 computes", "float64", "--device cpu");
        CliInProcess.Run(device, [.. op, "--device", "cuda", "--form", "reference"]).ShouldBeRefused("reference", "cuda:0", "--device cpu");
        CliInProcess.Run(device, [.. op, "--device", "cpu", "--precision", "bfloat16"]).ShouldBeRefused("The CPU", "bfloat16", "--device cuda");
        TinyText.Write(folder["text.txt"]);
        CliInProcess.Run(device, ["train", "--text", folder["text.txt"], "--runs", folder["runs"], "--precision", "bfloat16", .. TinyText.Settings()]).ShouldBeRefused("The CPU", "bfloat16", "--device cuda");
    }

    [Fact]
    public void Too_little_memory_is_refused_with_the_settings_to_lower()
    {
        TinyText.Write(folder["text.txt"]);
        CliInProcess.Run(
            CudaTestDevices.Emulated, 4L << 20, ["train", "--text", folder["text.txt"], "--runs", folder["runs"], "--steps", "3", "--device", "cuda", .. TinyText.Settings(), "--set", "data.batch_size=64"])
            .ShouldBeRefused("A training step of 64 x 32 tokens", "more bytes", "are free", "data.batch_size", "model.recompute");
    }

    private static double Loss(CliResult result) => JsonDocument.Parse(result.ShouldSucceed().Output).RootElement.GetProperty("loss").GetDouble();

    private static string Text(CliResult result) => JsonDocument.Parse(result.ShouldSucceed().Output).RootElement.GetProperty("text").GetString()!;
}
