using System.Collections.Concurrent;
using ExactFlow.Models.Mad;
using ExactFlow.Tensors;

namespace ExactFlow.Training.Experiments.Mad;

/// <summary>What all trainings of a study share. A folder can be given more tasks, mixers, seeds and points of the sweep later, but not other values of these.</summary>
public sealed record MadStudy
{
    /// <summary>The study's name, in its folder and on the command line.</summary>
    public const string Name = "mad";

    /// <summary>Epochs of each training.</summary>
    public int Epochs { get; init; } = 200;

    /// <summary>Examples per step.</summary>
    public int Batch { get; init; } = 128;

    /// <summary>Width of the models.</summary>
    public int Width { get; init; } = 128;

    /// <summary>Blocks of the models.</summary>
    public int Layers { get; init; } = 2;

    /// <summary>Heads of the mixers.</summary>
    public int Heads { get; init; } = 8;

    /// <summary>The most training examples, and a tenth of it the most test examples; 0 for as many as the settings say.</summary>
    public int Limit { get; init; }

    /// <summary>Test accuracy from which on a training goes no further; above 1 for never.</summary>
    public double EnoughAccuracy { get; init; } = 1;

    /// <summary>Number format: <c>auto</c>, <c>float32</c> or <c>bfloat16</c>.</summary>
    public string Precision { get; init; } = "auto";

    /// <summary>Lengths at which models are tested besides their own.</summary>
    public IReadOnlyList<int> Extrapolation { get; init; } = [];

    /// <summary>
    /// All trainings that are asked for, each once. What counts most comes first, so that a study that is stopped early leaves whole tables: the baseline before
    /// harder settings, then seed by seed and point by point of the sweep. Within such a table trainings that take longest come first, so that none is left for the
    /// end that others would have to wait for.
    /// </summary>
    /// <param name="tasks">The tasks.</param>
    /// <param name="mixers">The mixers.</param>
    /// <param name="settings">Names of the settings, as in <see cref="MadTaskKind.SettingsOf"/>.</param>
    /// <param name="learningRates">Of the sweep.</param>
    /// <param name="weightDecays">Of the sweep.</param>
    /// <param name="seeds">How many seeds.</param>
    /// <param name="firstSeed">The first of them; the others follow it.</param>
    /// <exception cref="InvalidInputException">None of the tasks has such settings.</exception>
    public static IReadOnlyList<MadPoint> Points(
        IReadOnlyList<MadTaskKind> tasks, IReadOnlyList<MadMixer> mixers, IReadOnlyCollection<string> settings, IReadOnlyList<double> learningRates, IReadOnlyList<double> weightDecays, int seeds, ulong firstSeed)
    {
        ArgumentNullException.ThrowIfNull(tasks);
        var tables = tasks.SelectMany(task => task.SettingsOf(settings).Select(setting => (Task: task, setting.Name, setting.Settings)))
            .ToLookup(chosen => chosen.Name == MadSettings.Baseline);
        if (tables.Count == 0)
        {
            throw new InvalidInputException($"Trainings were asked for at the settings {string.Join(", ", settings)}, but none of the tasks {string.Join(", ", tasks)} has such; choose others of baseline, full, {string.Join(", ", MadSettings.Variables)}.");
        }

        return
        [
            .. from isBaseline in (bool[])[true, false]
               from seed in Enumerable.Range(0, seeds)
               from decay in weightDecays
               from rate in learningRates
               from chosen in tables[isBaseline].SelectMany(chosen => mixers, (chosen, mixer) => (chosen.Task, chosen.Name, chosen.Settings, Mixer: mixer))
                   .OrderByDescending(chosen => WorkOfEpoch(chosen.Task.Create(chosen.Settings), new MadModelConfig { Mixer = chosen.Mixer, Vocabulary = chosen.Settings.Vocabulary }))
               select new MadPoint(chosen.Task, chosen.Settings, chosen.Name, chosen.Mixer, rate, decay, firstSeed + (ulong)seed),
        ];
    }

    /// <summary>Checks every training before any begins.</summary>
    /// <param name="points">The trainings.</param>
    /// <returns>The runs of the study, in their order.</returns>
    /// <exception cref="InvalidInputException">Settings are impossible, or a mixer cannot be built.</exception>
    public IReadOnlyList<StudyRun<MadResult>> Runs(IReadOnlyList<MadPoint> points)
    {
        ArgumentNullException.ThrowIfNull(points);
        var examples = new ConcurrentDictionary<(string Task, MadSettings Settings, ulong Seed, MadSplit Split), Lazy<MadExamples>>();
        return [.. points.Select(point =>
        {
            MadSettings settings = Limited(point.Settings);
            MadTask task = point.Task.Create(settings);
            MadTraining training = TrainingOf(point, task);
            MadTrainer.RequireBatch(task, training);
            return new StudyRun<MadResult>(point.ToString(), WorkOfEpoch(task, training.Model) * Epochs, worker =>
            {
                MadOutcome outcome = MadTrainer.Run(
                    worker.Device, point.Task, settings, training, Examples(MadSplit.Train, settings.TrainExamples), Examples(MadSplit.Test, settings.TestExamples), worker.Progress, worker.Stop);
                return MadResult.Of(point, outcome);
            });

            // Trainings of one task and seed share their examples.
            MadExamples Examples(MadSplit split, int count)
                => examples.GetOrAdd((task.Name, settings, point.Seed, split), _ => new(() => MadExamples.Generate(task, split, point.Seed, count))).Value;
        })];
    }

    /// <summary>A finished training in a few words.</summary>
    public static string Summarize(MadResult result)
    {
        ArgumentNullException.ThrowIfNull(result);
        return FormattableString.Invariant($"accuracy {result.Outcome.Accuracy:0.00%} (epoch {result.Outcome.BestEpoch} of {result.Outcome.Epochs}), at the end {result.Outcome.Accuracies[^1]:0.00%}");
    }

    /// <summary>Operations of an epoch; a token that is only tested takes a third of the work of one that is trained with.</summary>
    private static double WorkOfEpoch(MadTask task, MadModelConfig model)
        => task.InputLength * ((3.0 * task.Settings.TrainExamples) + task.Settings.TestExamples) * model.OperationsPerToken(task.InputLength);

    private MadSettings Limited(MadSettings settings) => Limit == 0 ? settings : settings with
    {
        TrainExamples = Math.Min(Limit, settings.TrainExamples),
        TestExamples = Math.Min(Math.Max(1, Limit / 10), settings.TestExamples),
    };

    private MadTraining TrainingOf(MadPoint point, MadTask task)
    {
        var model = new MadModelConfig { Mixer = point.Mixer, Vocabulary = task.Settings.Vocabulary, Width = Width, Layers = Layers, Heads = Heads };
        model.Validate();
        IReadOnlyList<int> lengths = task.IsCompression || task.Name == "memorization" ? [] : Extrapolation;
        foreach (int length in lengths)
        {
            point.Task.Create(task.Settings with { Length = length });
        }

        return new MadTraining
        {
            Model = model, LearningRate = point.LearningRate, WeightDecay = point.WeightDecay, Seed = point.Seed, Epochs = Epochs, Batch = Batch,
            EnoughAccuracy = EnoughAccuracy, Precision = Precision, Extrapolation = lengths,
        };
    }
}
