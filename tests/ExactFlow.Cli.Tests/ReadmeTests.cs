using ExactFlow.Testing;

namespace ExactFlow.Cli.Tests;

/// <summary>The commands that README.md shows, run as they stand there except that models and texts are small.</summary>
public sealed class ReadmeTests
{
    private const string Program = "dotnet run -c Release --project src/ExactFlow.Cli -- ";

    private static readonly string Readme = Path.Combine(AppContext.BaseDirectory, "README.md");

    [Fact]
    public void Every_command_works_in_the_order_shown()
    {
        using var folder = new TemporaryFolder();
        TinyText.Write(folder["text.txt"]);
        File.Copy(Readme, folder["README.md"]);
        string[][] commands = [.. Lines().Where(line => line.StartsWith(Program, StringComparison.Ordinal)).Select(line => Split(line[Program.Length..]))];
        Assert.True(commands.Length >= 5, "README.md shows fewer commands than it should.");
        Assert.Equal(["compare"], commands[0]);
        for (int i = 0; i < commands.Length; i++)
        {
            CliResult result = CliProcess.Run(folder.Path, Reduce(commands[i], i));
            if (commands[i].Contains("cuda"))
            {
                // Where there is a GPU, the case that stands for all others is one of the CPU; where there is none, that is said.
                result.ShouldBeRefused(CudaTestDevices.HasReal ? "No benchmark has" : "cuda");
            }
            else
            {
                result.ShouldSucceed();
            }
        }
    }

    [Fact]
    public void The_test_command_is_the_one_that_is_checked() =>
        Assert.Contains(Lines(), line => line == "dotnet test -c Release");

    /// <summary>The lines of shell blocks.</summary>
    private static IEnumerable<string> Lines()
    {
        bool isShell = false;
        foreach (string line in File.ReadLines(Readme))
        {
            if (line.StartsWith("```", StringComparison.Ordinal))
            {
                isShell = line == "```sh";
            }
            else if (isShell)
            {
                yield return line;
            }
        }
    }

    private static string[] Split(string line) => [.. System.CommandLine.Parsing.CommandLineParser.SplitCommandLine(line)];

    /// <summary>The same command on a small text with a small model and few steps.</summary>
    private static string[] Reduce(string[] command, int index)
    {
        var words = new List<string>(command);
        switch (command[0])
        {
            case "compare":
                // Steps that differ from command to command: two under one name would not go together, here as there.
                Set(words, "--steps", $"{index + 2}");
                Set(words, "--seeds", "1");
                Set(words, "--text", "text.txt");
                words.AddRange(TinyText.Settings("training."));
                break;
            case "train":
                Set(words, "--steps", "2");
                if (!words.Exists(word => word.StartsWith("data.packed=", StringComparison.Ordinal)))
                {
                    Set(words, "--text", "text.txt");
                }

                words.AddRange(TinyText.Settings());
                break;
            case "data" when command[1] == "pack":
                Set(words, "--text", "text.txt");
                break;
            case "bench":
                words.AddRange(["--filter", "1t 2048 x 256 to 256", "--seconds", "0.01"]);
                break;
        }

        return [.. words];
    }

    private static void Set(List<string> words, string option, string value)
    {
        int at = words.IndexOf(option);
        if (at < 0)
        {
            words.AddRange([option, value]);
        }
        else
        {
            words[at + 1] = value;
        }
    }
}
