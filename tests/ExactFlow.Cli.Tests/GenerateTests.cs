using System.Text.Json;
using ExactFlow.Testing;

namespace ExactFlow.Cli.Tests;

/// <summary><c>exactflow generate</c> on a model trained for a few steps.</summary>
public sealed class GenerateTests(TrainedFixture trained) : IClassFixture<TrainedFixture>
{
    [Fact]
    public void A_prompt_is_continued_the_same_way_for_the_same_seed()
    {
        CliResult first = Generate("--prompt", "the flow", "--seed", "1").ShouldSucceed();
        Assert.StartsWith("the flow", first.Output, StringComparison.Ordinal);
        Assert.True(first.Output.Length > "the flow\n".Length);
        Assert.Equal(first.Output, Generate("--prompt", "the flow", "--seed", "1").Output);
        Assert.NotEqual(first.Output, Generate("--prompt", "the flow", "--seed", "2").Output);
        Assert.Contains("per second", first.Error, StringComparison.Ordinal);
    }

    [Fact]
    public void Temperature_zero_ignores_the_seed() =>
        Assert.Equal(Generate("--prompt", "the", "--temperature", "0", "--seed", "1").ShouldSucceed().Output, Generate("--prompt", "the", "--temperature", "0", "--seed", "2").Output);

    [Fact]
    public void Standard_input_is_a_prompt()
    {
        CliResult piped = CliProcess.Run(trained.Folder, ["generate", "--model", "runs/first", "--tokens", "5"], input: "the flow").ShouldSucceed();
        Assert.Equal(Generate("--prompt", "the flow", "--tokens", "5").Output, piped.Output);
    }

    [Fact]
    public void An_empty_prompt_begins_a_text() => Generate("--prompt", "").ShouldSucceed();

    [Fact]
    public void Json_has_the_text_and_the_counts()
    {
        CliResult result = Generate("--prompt", "the flow", "--tokens", "7", "--json").ShouldSucceed();
        using var document = JsonDocument.Parse(result.Output);
        Assert.Equal("the flow", document.RootElement.GetProperty("prompt").GetString());
        Assert.InRange(document.RootElement.GetProperty("tokens").GetInt32(), 1, 7);
        Assert.Empty(result.Error);
    }

    [Fact]
    public void Every_way_of_narrowing_the_choice_can_be_combined() =>
        Generate("--prompt", "the", "--top-k", "5", "--top-p", "0.9", "--min-p", "0.05", "--repetition-penalty", "1.2", "--temperature", "1.5").ShouldSucceed();

    [Fact]
    public void A_checkpoint_is_a_model_too() =>
        Assert.Equal(
            Generate("--prompt", "the").Output,
            CliProcess.Run(trained.Folder, ["generate", "--model", "runs/first/checkpoints/step-000020", "--tokens", "16", "--prompt", "the"]).ShouldSucceed().Output);

    [Fact]
    public void Ctrl_c_ends_a_long_text()
    {
        using CliProcess process = CliProcess.Start(trained.Folder, ["generate", "--model", "runs/first", "--prompt", "the", "--tokens", "100000000"]);
        process.WaitForText("e");
        process.Interrupt();
        Assert.Equal(130, process.WaitForEnd().ExitCode);
    }

    [Theory]
    [InlineData("--tokens", "0")]
    [InlineData("--temperature", "-1")]
    [InlineData("--temperature", "NaN")]
    [InlineData("--top-p", "0")]
    [InlineData("--top-p", "1.5")]
    [InlineData("--min-p", "2")]
    [InlineData("--repetition-penalty", "0")]
    [InlineData("--seed", "-1")]
    public void A_value_out_of_range_is_refused_with_the_range(string option, string value) => Generate("--prompt", "the", option, value).ShouldBeRefused(option, $"but it is '{value}'");

    [Fact]
    public void A_model_that_does_not_exist_is_named() => CliProcess.Run(trained.Folder, ["generate", "--model", "absent", "--prompt", "the"]).ShouldBeRefused("'absent' does not exist");

    [Fact]
    public void A_folder_without_a_model_is_refused() => CliProcess.Run(trained.Folder, ["generate", "--model", ".", "--prompt", "the"]).ShouldBeRefused("holds no model", "config.json");

    [Theory]
    [InlineData("model.safetensors")]
    [InlineData("config.json")]
    [InlineData("tokenizer.json")]
    public void A_damaged_file_is_named(string file)
    {
        using var folder = new TemporaryFolder();
        foreach (string source in Directory.EnumerateFiles(trained["runs/first/checkpoints/step-000020"]))
        {
            File.Copy(source, folder[Path.GetFileName(source)]);
        }

        byte[] whole = File.ReadAllBytes(folder[file]);
        File.WriteAllBytes(folder[file], whole[..(whole.Length / 2)]);
        CliProcess.Run(folder.Path, ["generate", "--model", folder.Path, "--prompt", "the"]).ShouldBeRefused(file);
    }

    private CliResult Generate(params string[] more)
    {
        string[] tokens = more.Contains("--tokens") ? [] : ["--tokens", "16"];
        return CliProcess.Run(trained.Folder, ["generate", "--model", "runs/first", .. tokens, .. more]);
    }
}
