using System.CommandLine;
using ExactFlow.Cli.Display;
using ExactFlow.Cli.Parsing;
using ExactFlow.Tensors;
using ExactFlow.Training.Experiments.SequentialMnist;

namespace ExactFlow.Cli.Commands.SequentialMnist;

/// <summary><c>exactflow smnist run</c>: trains and tests every combination of rule, learning rate and seed.</summary>
internal static class SmnistRunCommand
{
    private static readonly double[] DefaultRates = [1e-4, 3e-4, 1e-3, 3e-3, 1e-2];

    /// <summary>Makes the command.</summary>
    public static Command Create(Interruption interruption)
    {
        var data = new Option<string>("--data") { Description = "folder with the four files of MNIST, plain or .gz", HelpName = "DIR", Required = true };
        Option<string[]> rules = Settings.Names("--rules", "what to train", ["efla", "deltanet"], [.. SequentialMnistRule.All.Select(rule => rule.Name)]);
        Option<double[]> rates = Settings.Numbers("--lr", "learning rates, each held constant", DefaultRates, double.Epsilon, 1);
        Option<int> seed = Settings.Whole("--seed", "the first seed; decides weights and the order of the images", 42, 0);
        Option<int[]> seeds = Settings.Seeds("--seeds", "how many seeds, counted up from --seed, or the seeds themselves separated by commas", seed);
        Option<int> epochs = Settings.Whole("--epochs", "passes over the training images", 1, 1, 1000);
        Option<int> limit = Settings.Whole("--limit", "only the first so many training images; 0 = all", 0, 0);
        Option<int> testLimit = Settings.Whole("--test-limit", "only the first so many test images; 0 = all", 0, 0);
        var command = new CliCommand("run", "Trains and tests every combination of rule, learning rate and seed. Ctrl-C stops; the same command goes on, and finished runs are not done again.")
        {
            Examples =
            [
                ("exactflow smnist run --data mnist/ --rules efla,deltanet --lr 3e-3,1e-3 --out runs/smnist", "the paper's comparison, one seed"),
                ($"exactflow smnist run --data mnist/ --rules {string.Join(',', SequentialMnistRule.All.Select(rule => rule.Name))} --seeds 3 --device cuda:0,cuda:1 --parallel 16 --out runs/smnist", "the whole study on two GPUs"),
                ("exactflow smnist report runs/smnist", "report.html, figures and tables from what is finished"),
            ],
        };
        foreach (Option option in (Option[])[data, rules, rates, seeds, seed, epochs, limit, testLimit])
        {
            command.Options.Add(option);
        }

        StudyOptions common = StudyOptions.AddTo(command);
        command.SetAction(parsed =>
        {
            var options = new SequentialMnistOptions { Epochs = parsed.GetRequiredValue(epochs), TrainingLimit = parsed.GetRequiredValue(limit), TestLimit = parsed.GetRequiredValue(testLimit) };
            int[] chosen = parsed.GetResult(seeds) is { Implicit: false } ? parsed.GetRequiredValue(seeds) : [parsed.GetRequiredValue(seed)];
            return Run(
                () => new SequentialMnistStudy(parsed.GetRequiredValue(data), options, parsed.GetRequiredValue(rules), parsed.GetRequiredValue(rates), chosen),
                common.Output(parsed), common.Devices(parsed), common.WantsJson(parsed), interruption.StopCleanly());
        });
        return command;
    }

    private static int Run(Func<SequentialMnistStudy> read, string folder, IReadOnlyList<Func<Device>> devices, bool wantsJson, CancellationToken stop)
    {
        bool isFinished;
        using (StudyDisplay display = StudyDisplay.Create(wantsJson))
        {
            display.Say("reading the images");
            isFinished = read().Run(folder, devices, display, stop);
            display.Say(isFinished ? $"{folder} holds all runs: exactflow smnist report {folder} shows them" : "stopped; finished runs are kept, and the same command goes on");
        }

        if (wantsJson && isFinished)
        {
            JsonOutput.Write(new { Folder = folder, Runs = SequentialMnistStudy.Read(folder) });
        }

        return isFinished ? ExitCode.Success : ExitCode.Interrupted;
    }
}
