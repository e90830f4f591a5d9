using System.Globalization;
using ExactFlow.Tensors;

namespace ExactFlow.Training.Experiments.SequentialMnist;

/// <summary>
/// The robustness study of sequential MNIST (arXiv 2512.12602, sections 4.3 and 4.4): every rule at every learning rate with every seed, tested undisturbed and under
/// three families of disturbances.
/// </summary>
public sealed class SequentialMnistStudy
{
    /// <summary>Its name in folders and on the command line.</summary>
    public const string Name = "smnist";

    private readonly SequentialMnistSettings settings;
    private readonly IReadOnlyList<StudyRun<SequentialMnistResult>> runs;

    /// <summary>Reads the images and lists the runs.</summary>
    /// <param name="dataFolder">Holds the four files of MNIST, plain or gzip.</param>
    /// <param name="options">What all runs share.</param>
    /// <param name="rules">Rules.</param>
    /// <param name="learningRates">Learning rates.</param>
    /// <param name="seeds">Seeds.</param>
    /// <exception cref="InvalidInputException">A file is missing or damaged, a rule is unknown, or a learning rate is not positive.</exception>
    public SequentialMnistStudy(string dataFolder, SequentialMnistOptions options, IReadOnlyList<string> rules, IReadOnlyList<double> learningRates, IReadOnlyList<int> seeds)
    {
        ArgumentNullException.ThrowIfNull(options);
        ArgumentNullException.ThrowIfNull(rules);
        ArgumentNullException.ThrowIfNull(learningRates);
        ArgumentNullException.ThrowIfNull(seeds);
        SequentialMnistRule[] parsed = [.. rules.Select(SequentialMnistRule.Parse)];
        MnistSet training = MnistSet.ReadTraining(dataFolder, options.TrainingLimit), test = MnistSet.ReadTest(dataFolder, options.TestLimit);
        settings = new SequentialMnistSettings(options, training.Hash(), test.Hash());
        var perturbed = new PerturbedImages(test.Images);

        // Seeds outermost: a study that is stopped early has all rules at fewer seeds rather than fewer rules at all.
        runs =
        [
            .. from seed in seeds
               from rate in learningRates
               from rule in parsed
               let run = new SequentialMnistRun(options, rule, rate, seed, training, test, perturbed)
               select new StudyRun<SequentialMnistResult>(run.Name, 1, run.Execute),
        ];
    }

    /// <summary>Does what the folder does not hold yet, and writes <c>results.csv</c> from all it holds then.</summary>
    /// <param name="folder">The study's folder.</param>
    /// <param name="devices">One per run at once: opens its device.</param>
    /// <param name="observer">Is told how it goes.</param>
    /// <param name="stop">Asks to stop; finished runs are kept.</param>
    /// <returns>Whether all runs are finished.</returns>
    /// <exception cref="InvalidInputException">The folder is of something else or in use, a device cannot be opened, or the disk is full.</exception>
    public bool Run(string folder, IReadOnlyList<Func<Device>> devices, IStudyObserver observer, CancellationToken stop)
    {
        using StudyFolder<SequentialMnistResult> study = StudyFolder<SequentialMnistResult>.Open(folder, Name, settings);
        bool isFinished = new StudyRunner<SequentialMnistResult>(study, runs, devices, Summarize, observer).Run(stop);
        WriteCsv(Path.Combine(study.Path, "results.csv"), study.Records);
        return isFinished;
    }

    /// <summary>The finished runs of a study; it may still be going on.</summary>
    /// <exception cref="InvalidInputException">The folder holds no such study.</exception>
    public static IReadOnlyList<StudyRecord<SequentialMnistResult>> Read(string folder) => StudyFolder<SequentialMnistResult>.Read(folder, Name);

    /// <summary>A result in a few words.</summary>
    private static string Summarize(SequentialMnistResult result)
        => string.Create(CultureInfo.InvariantCulture, $"{result.Accuracy * 100:0.0} % clean, loss {result.FinalLoss:0.000}, trained in {result.TrainingSeconds:0.0} s");

    /// <summary>One row per run and disturbance.</summary>
    private static void WriteCsv(string path, IReadOnlyList<StudyRecord<SequentialMnistResult>> records)
    {
        string[] columns = ["rule", "learning_rate", "seed", "final_loss", "disturbance", "level", "accuracy"];
        CsvTable.Write(path, columns, records.SelectMany(record =>
        {
            SequentialMnistResult result = record.Result;
            IReadOnlyList<object?> row(string kind, double level, double accuracy) => [result.Rule, result.LearningRate, result.Seed, result.FinalLoss, kind, level, accuracy];
            return Enumerable.Empty<IReadOnlyList<object?>>()
                .Append(row("none", 0, result.Accuracy))
                .Concat(result.Intensity.Zip(Perturbation.IntensityLevels, (accuracy, level) => row("intensity", level, accuracy)))
                .Concat(result.Noise.Zip(Perturbation.TenthLevels, (accuracy, level) => row("noise", level, accuracy)))
                .Concat(result.Dropout.Zip(Perturbation.TenthLevels, (accuracy, level) => row("dropout", level, accuracy)));
        }));
    }
}
