using System.CommandLine;
using ExactFlow.Cli.Parsing;
using ExactFlow.Cuda;
using ExactFlow.Tensors;
using ExactFlow.Training.Benchmarks;

namespace ExactFlow.Cli.Commands;

/// <summary><c>exactflow bench</c>: our speed as shares of what this machine was measured to do in the same run.</summary>
internal static class BenchCommand
{
    /// <summary>Makes the command.</summary>
    public static Command Create()
    {
        string[] names = [.. BenchmarkSuite.OfProject.Select(suite => suite.Name)];
        Argument<string[]> suites = Settings.AnyOf("suite", "what to measure; all of them when none is named", names);
        Option<string?> filter = Settings.Optional("--filter", "only cases whose name contains this", "TEXT");
        Option<double> seconds = Settings.Number("--seconds", "measuring time of a case, all contenders together", 2, 0.01, 3600);
        var command = new CliCommand("bench", "Measures speed. Contenders take turns; rates are medians, and a ratio is the median over the turns of a contender's rate divided by the first one's.")
        {
            Examples =
            [
                ("exactflow bench", "everything, a few minutes"),
                ("exactflow bench op --filter \"2t efla\"", "the operator for one rule on two threads"),
                ("exactflow bench matmul train --json", "for a script"),
                ("exactflow bench op --device cuda --filter \"x 8\"", "the delta rule on a GPU at three shapes"),
                ("exactflow bench train --device cuda", "training steps of 374M parameters: tokens per second, memory, share of the product's rate"),
            ],
        };
        command.Arguments.Add(suites);
        command.Options.Add(filter);
        command.Options.Add(seconds);
        CommonOptions common = CommonOptions.AddTo(command);
        command.SetAction(parsed =>
        {
            using Device device = common.Open(parsed);
            var options = new BenchmarkOptions
            {
                Filter = parsed.GetValue(filter) ?? "",
                Threads = parsed.GetRequiredValue(common.Threads),
                SecondsPerCase = parsed.GetRequiredValue(seconds),
            };
            bool wantsJson = common.WantsJson(parsed);
            var run = new BenchmarkRun(options, wantsJson ? Console.Error : Console.Out, device as CudaDevice);
            string[] chosen = parsed.GetValue(suites) is { Length: > 0 } named ? named : names;
            foreach (BenchmarkSuite suite in BenchmarkSuite.OfProject.Where(suite => chosen.Contains(suite.Name)))
            {
                run.Begin(suite);
                suite.Run(run);
            }

            if (run.Measurements.Count == 0)
            {
                throw new InvalidInputException($"No benchmark has '{options.Filter}' in its name: leave --filter out to see them all.");
            }

            if (wantsJson)
            {
                Console.WriteLine(run.ToJson());
            }
        });
        return command;
    }
}
