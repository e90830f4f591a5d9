namespace ExactFlow.Cli.Tests;

/// <summary>Help, and command lines that cannot be understood.</summary>
public sealed class CommandLineTests
{
    public static TheoryData<string> Commands => ["compare", "train", "generate", "eval", "op", "bench", "doctor"];

    [Fact]
    public void Help_lists_every_command()
    {
        CliResult result = CliProcess.Run("--help").ShouldSucceed();
        Assert.All(Commands, command => Assert.Contains($"  {command.Data} ", result.Output, StringComparison.Ordinal));
        Assert.Empty(result.Error);
    }

    [Theory]
    [MemberData(nameof(Commands))]
    public void Help_of_a_command_has_defaults_and_examples(string command)
    {
        CliResult result = CliProcess.Run(command, "--help").ShouldSucceed();
        Assert.Contains($"exactflow {command}", result.Output, StringComparison.Ordinal);
        Assert.Contains("[default: ", result.Output, StringComparison.Ordinal);
        Assert.Contains($"Examples:\n  exactflow {command}", result.Output, StringComparison.Ordinal);
        Assert.Contains("--device", result.Output, StringComparison.Ordinal);
        Assert.Contains("--threads", result.Output, StringComparison.Ordinal);
        Assert.Contains("--json", result.Output, StringComparison.Ordinal);
        Assert.Empty(result.Error);
    }

    [Theory]
    [MemberData(nameof(Commands))]
    public void An_unknown_option_is_refused_with_the_nearest(string command) =>
        CliProcess.Run(command, "--treads", "2").ShouldBeRefused($"exactflow {command} has no option '--treads'", "did you mean --threads?", "--device");

    [Fact]
    public void No_command_is_refused_with_all() => CliProcess.Run().ShouldBeRefused("needs a command", "op");

    [Fact]
    public void An_unknown_command_is_refused_with_the_nearest() => CliProcess.Run("ops").ShouldBeRefused("no command 'ops'", "did you mean op?");

    [Theory]
    [InlineData("--threads", "-1", "a whole number from 0 to 1024, but it is '-1'")]
    [InlineData("--threads", "two", "a whole number from 0 to 1024, but it is 'two'")]
    [InlineData("--form", "chunkwize", "one of recurrent, chunkwise, reference, but it is 'chunkwize' (did you mean chunkwise?)")]
    [InlineData("--precision", "bf16", "one of float32, float64, bfloat16, but it is 'bf16'")]
    [InlineData("--chunk", "0", "a whole number from 1 to 256, but it is '0'")]
    [InlineData("--chunk", "99999999999", "a whole number from 1 to 256")]
    public void A_bad_value_is_refused_with_what_is_allowed(string option, string value, string expected) =>
        CliProcess.Run("op", "--input", "in", "--output", "out", option, value).ShouldBeRefused($"{option} takes {expected}");

    [Fact]
    public void A_missing_option_is_named() => CliProcess.Run("op", "--input", "in").ShouldBeRefused("'--output' is required");

    [Fact]
    public void A_missing_value_is_named() => CliProcess.Run("op", "--output", "out", "--input").ShouldBeRefused("--input");

    [Fact]
    public void An_unknown_device_is_refused() =>
        CliProcess.Run("op", "--input", "in", "--output", "out", "--device", "tpu").ShouldBeRefused("\"tpu\" is not a device", "cpu, cuda, or cuda:N");

    [Fact]
    public void Cuda_without_operators_or_driver_is_refused_with_the_remedy() =>
        CliProcess.Run("op", "--input", "in", "--output", "out", "--device", "cuda").ShouldBeRefused("cuda:0", "--device cpu");
}
