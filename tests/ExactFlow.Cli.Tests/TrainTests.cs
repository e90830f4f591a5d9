using System.Security.Cryptography;
using System.Text.Json;
using ExactFlow.Testing;

namespace ExactFlow.Cli.Tests;

/// <summary><c>exactflow train</c>: what it writes and says, stopping and resuming, and recipes that cannot be used.</summary>
public sealed class TrainTests(TrainedFixture trained) : IClassFixture<TrainedFixture>
{
    [Fact]
    public void Step_lines_have_the_fields_that_people_expect()
    {
        string line = trained.Training.Output.Split('\n').First(line => line.Contains("step 20/20", StringComparison.Ordinal));
        Assert.Matches(@"^efla \| step 20/20 \(100\.0 %\) \| loss \d+\.\d{4} \| lr \d\.\d\de-\d \| \d+\.\d ms \| [\d,]+ tok/s \| \d+\.\d GFLOP/s \(\d+\.\d % of matmul\) \| left 0:00$", line);
        Assert.Contains("bits per byte", trained.Training.Output, StringComparison.Ordinal);
        Assert.Contains("sample: The", trained.Training.Output, StringComparison.Ordinal);
        Assert.Empty(trained.Training.Error);
    }

    [Theory]
    [InlineData("recipe.json")]
    [InlineData("metrics.jsonl")]
    [InlineData("report.html")]
    [InlineData("tokenizer.json")]
    [InlineData("checkpoints/step-000020/manifest.json")]
    [InlineData("checkpoints/step-000020/model.safetensors")]
    [InlineData("checkpoints/step-000020/config.json")]
    [InlineData("checkpoints/step-000020/tokenizer.json")]
    public void The_run_folder_holds(string file) => Assert.True(new FileInfo(Path.Combine(trained["runs/first"], file)).Length > 0);

    [Fact]
    public void A_run_that_exists_is_not_overwritten() =>
        Train(trained.Folder, "--name", "first").ShouldBeRefused("exists already", "--resume auto", "--name");

    [Fact]
    public void A_run_stopped_by_ctrl_c_and_resumed_equals_one_that_was_not()
    {
        using var folder = new TemporaryFolder();
        TinyText.Write(folder["text.txt"]);
        string[] arguments = ["train", "--name", "stopped", "--text", "text.txt", "--steps", "60", "--seed", "5", .. TinyText.Settings()];
        using (CliProcess process = CliProcess.Start(folder.Path, arguments))
        {
            process.WaitForText("step 3/60");
            process.Interrupt();
            CliResult stopped = process.WaitForEnd();
            Assert.Equal(130, stopped.ExitCode);
            Assert.Contains("continue with --resume auto", stopped.Output, StringComparison.Ordinal);
            Assert.Empty(stopped.Error);
        }

        CliResult resumed = CliProcess.Run(folder.Path, [.. arguments, "--resume", "auto"]).ShouldSucceed();
        Assert.DoesNotContain("step 1/60", resumed.Output, StringComparison.Ordinal);
        CliProcess.Run(folder.Path, [.. arguments.Select(argument => argument == "stopped" ? "whole" : argument)]).ShouldSucceed();
        Assert.Equal(Hash(folder["runs/whole/checkpoints/step-000060/model.safetensors"]), Hash(folder["runs/stopped/checkpoints/step-000060/model.safetensors"]));
        Assert.Equal(File.ReadAllText(folder["runs/whole/metrics.jsonl"]), File.ReadAllText(folder["runs/stopped/metrics.jsonl"]));
    }

    [Fact]
    public void Json_has_the_result_and_nothing_else_on_standard_output()
    {
        CliResult result = Train(trained.Folder, "--name", "json", "--json", "--rule", "deltanet").ShouldSucceed();
        using var document = JsonDocument.Parse(result.Output);
        Assert.Equal(3, document.RootElement.GetProperty("steps").GetInt32());
        Assert.True(document.RootElement.GetProperty("result").GetProperty("bits_per_byte").GetDouble() > 0);
        Assert.Contains("deltanet | step 3/3", result.Error, StringComparison.Ordinal);
    }

    [Fact]
    public void A_recipe_file_decides_and_settings_override_it()
    {
        using var folder = new TemporaryFolder();
        TinyText.Write(folder["text.txt"]);
        File.WriteAllText(folder["recipe.json"], """{ "name": "fromfile", "steps": 2, "model": { "rule": "gated_efla" } }""");
        CliResult result = CliProcess.Run(folder.Path, ["train", "--config", "recipe.json", "--text", "text.txt", .. TinyText.Settings(), "--set", "steps=4"]).ShouldSucceed();
        Assert.Contains("gated_efla | step 4/4", result.Output, StringComparison.Ordinal);
        Assert.True(File.Exists(folder["runs/fromfile/recipe.json"]));
    }

    [Fact]
    public void A_damaged_checkpoint_is_refused_by_name_and_passed_over_automatically()
    {
        using var folder = new TemporaryFolder();
        TinyText.Write(folder["text.txt"]);
        string[] arguments = ["train", "--name", "damaged", "--text", "text.txt", "--steps", "4", .. TinyText.Settings(), "--set", "checkpoints.every=2"];
        CliProcess.Run(folder.Path, arguments).ShouldSucceed();
        string weights = folder["runs/damaged/checkpoints/step-000004/model.safetensors"];
        byte[] bytes = File.ReadAllBytes(weights);
        bytes[^10] ^= 1;
        File.WriteAllBytes(weights, bytes);

        CliProcess.Run(folder.Path, [.. arguments, "--resume", "step-000004"]).ShouldBeRefused("step-000004", "model.safetensors");
        CliResult resumed = CliProcess.Run(folder.Path, [.. arguments, "--resume", "auto"]).ShouldSucceed();
        Assert.Contains("step 4 is passed over", resumed.Output, StringComparison.Ordinal);
        Assert.Contains("step 4/4", resumed.Output, StringComparison.Ordinal);
    }

    [Fact]
    public void A_text_that_does_not_exist_is_named() => Train(trained.Folder, "--name", "a", "--text", "absent.txt").ShouldBeRefused("absent.txt");

    [Fact]
    public void A_text_that_is_too_short_says_how_much_is_needed()
    {
        File.WriteAllText(trained["short.txt"], "Only a few words.\n");
        CliProcess.Run(trained.Folder, ["train", "--name", "short", "--text", "short.txt", .. TinyText.Settings()]).ShouldBeRefused("33");
    }

    [Theory]
    [InlineData("optimizer.learning_rat=1", "optimizer.learning_rat", "learning_rate")]
    [InlineData("steps=-1", "'steps' must be a whole number of 1 or more", "-1")]
    [InlineData("model.heads=many", "'model.heads' must be a whole number", "many")]
    [InlineData("steps", "has no value", "key=value")]
    [InlineData("model.heads=7", "7", "heads")]
    public void A_setting_that_cannot_be_used_is_explained(string setting, params string[] expected) =>
        Train(trained.Folder, "--name", "b", "--set", setting).ShouldBeRefused(expected);

    [Theory]
    [InlineData("{", "not valid JSON")]
    [InlineData("[]", "a JSON object was expected")]
    [InlineData("""{ "modl": {} }""", "there is no option 'modl'")]
    [InlineData("""{ "steps": 1, "steps": 2 }""", "steps")]
    public void A_recipe_that_cannot_be_used_is_explained(string recipe, string expected)
    {
        using var folder = new TemporaryFolder();
        File.WriteAllText(folder["recipe.json"], recipe);
        CliProcess.Run(folder.Path, ["train", "--config", "recipe.json"]).ShouldBeRefused("recipe.json", expected);
    }

    [Fact]
    public void An_unknown_rule_is_refused_with_the_nearest() =>
        Train(trained.Folder, "--name", "c", "--rule", "gated_elfa").ShouldBeRefused("gated_elfa", "did you mean gated_efla?", "softmax_attention");

    [Fact]
    public void A_runs_folder_that_is_a_file_is_refused() => Train(trained.Folder, "--name", "d", "--runs", "text.txt").ShouldBeRefused("text.txt");

    [Fact]
    public void A_name_that_leaves_the_folder_is_refused() => Train(trained.Folder, "--name", "../outside").ShouldBeRefused("'name' must be");

    private static CliResult Train(string folder, params string[] more)
    {
        string[] text = more.Contains("--text") ? [] : ["--text", "text.txt"];
        return CliProcess.Run(folder, ["train", "--steps", "3", .. text, .. TinyText.Settings(), .. more]);
    }

    private static string Hash(string path) => Convert.ToHexString(SHA256.HashData(File.ReadAllBytes(path)));
}
