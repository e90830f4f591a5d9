using System.CommandLine;
using ExactFlow.Cli.Parsing;
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
        Option<string[]> suites = Settings.Names("--suite", "what to measure", names, names);
        Option<string?> filter = Settings.Optional("--filter", "only cases whose name contains this", "TEXT");
        Option<double> seconds = Settings.Number("--seconds", "measuring time of a case, all contenders together", 2, 0.01, 3600);
        var command = new CliCommand("bench", "Measures speed. Contenders take turns; rates are medians, and a ratio is the median over the turns of a contender's rate divided by the first one's.")
        {
            Examples =
            [
                ("exactflow bench", "everything, a few minutes"),
                ("exactflow bench --suite op --filter \"2t efla\"", "the operator for one rule on two threads"),
                ("exactflow bench --suite matmul,train --json", "for a script"),
            ],
        };
        command.Options.Add(suites);
        command.Options.Add(filter);
        command.Options.Add(seconds);
        CommonOptions common = CommonOptions.AddTo(command);
        command.SetAction(parsed =>
        {
            common.Open(parsed).Dispose();
            var options = new BenchmarkOptions
            {
                Filter = parsed.GetValue(filter) ?? "",
                Threads = parsed.GetRequiredValue(common.Threads),
                SecondsPerCase = parsed.GetRequiredValue(seconds),
            };
            bool wantsJson = common.WantsJson(parsed);
            var run = new BenchmarkRun(options, wantsJson ? Console.Error : Console.Out);
            foreach (BenchmarkSuite suite in BenchmarkSuite.OfProject.Where(suite => parsed.GetRequiredValue(suites).Contains(suite.Name)))
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
