using System.Text.RegularExpressions;
using ExactFlow.Cli.Display;
using ExactFlow.Training;
using Spectre.Console;

namespace ExactFlow.Cli.Tests;

/// <summary>The live table, on a terminal made of a string.</summary>
public sealed class TrainingTableTests
{
    private static readonly Regex Escapes = new(@"\x1b\[[0-9;?]*[A-Za-z]", RegexOptions.None, TimeSpan.FromSeconds(1));

    [Fact]
    public void The_last_frame_has_a_row_for_every_run_what_it_wrote_and_what_was_said()
    {
        string screen = Show(table =>
        {
            table.Say("reading [the] text");
            ITrainingObserver efla = table.Observe("efla");
            ITrainingObserver deltaNet = table.Observe("deltanet");
            for (int i = 1; i <= 3; i++)
            {
                efla.OnStep(Step(i, 5 - i));
            }

            deltaNet.OnStep(Step(1, 7.25));
            efla.OnValidation(3, new ExactFlow.Training.ValidationResult(2.125, 1));
            efla.OnSample(3, new SampleText("The ", "flow [red]is\nexact"));
            deltaNet.OnWarning("Step 1 was not applied.");
        });

        Assert.Contains("reading [the] text", screen, StringComparison.Ordinal);
        Assert.Contains("deltanet: Step 1 was not applied.", screen, StringComparison.Ordinal);
        Assert.Matches(@"efla +75 +2\.000 +2\.125 +1\.0e-3 +10 +1,000 +2\.0 +50\.0 % +1:05", screen);
        Assert.Matches(@"deltanet +25 +7\.250 +1\.0e-3 ", screen);
        Assert.Contains("efla The flow [red]is exact", screen, StringComparison.Ordinal);
    }

    [Fact]
    public void Nothing_to_show_is_no_error() => Show(_ => { });

    [Fact]
    public void A_run_that_has_not_begun_has_a_row() => Assert.Contains("efla", Show(table => table.Observe("efla")), StringComparison.Ordinal);

    /// <summary>What the terminal shows after the last frame, without colours.</summary>
    private static string Show(Action<TrainingTable> work)
    {
        var output = new StringWriter();
        IAnsiConsole console = AnsiConsole.Create(new AnsiConsoleSettings { Ansi = AnsiSupport.Yes, Interactive = InteractionSupport.Yes, Out = new AnsiConsoleOutput(output) });
        console.Profile.Width = 140;
        using (var table = new TrainingTable(console))
        {
            work(table);
        }

        return Escapes.Replace(output.ToString(), "");
    }

    private static StepRecord Step(int step, double loss) => new()
    {
        Step = step,
        Steps = 4,
        Loss = loss,
        LearningRate = 1e-3,
        GradientNorm = 1,
        Applied = true,
        SkippedSteps = 0,
        Tokens = 10,
        Milliseconds = 10,
        Flops = 2e7,
        MachineFlopsPerSecond = 4e9,
        SecondsLeft = 64.2,
    };
}
