namespace ExactFlow.Cli.Tests;

/// <summary>What a failure looks like, and how to see more.</summary>
public sealed class FailureTests
{
    [Fact]
    public void A_stack_trace_is_shown_only_when_asked_for()
    {
        string[] arguments = ["op", "--input", "absent", "--output", "out"];
        var environment = new Dictionary<string, string>(StringComparer.Ordinal) { ["EXACTFLOW_DEBUG"] = "1" };
        CliResult asked = CliProcess.Run(AppContext.BaseDirectory, arguments, environment: environment);
        Assert.Equal(2, asked.ExitCode);
        Assert.Contains("   at ExactFlow.", asked.Error, StringComparison.Ordinal);
        CliProcess.Run(arguments).ShouldBeRefused("absent");
    }

    [Fact]
    public void A_fault_of_the_program_ends_with_one_and_says_how_to_see_where()
    {
        (int exitCode, string sentence) = CommandLine.Describe(new InvalidOperationException("Two\nlines."));
        Assert.Equal(1, exitCode);
        Assert.Equal("the program failed with InvalidOperationException: Two lines. (set EXACTFLOW_DEBUG=1 to see where)", sentence);
    }

    [Theory]
    [InlineData(typeof(IOException))]
    [InlineData(typeof(UnauthorizedAccessException))]
    [InlineData(typeof(OutOfMemoryException))]
    [InlineData(typeof(ExactFlow.Tensors.InvalidInputException))]
    public void What_the_user_or_the_machine_lacks_ends_with_two(Type type) =>
        Assert.Equal((2, "no room."), CommandLine.Describe((Exception)Activator.CreateInstance(type, "no room.")!));
}
