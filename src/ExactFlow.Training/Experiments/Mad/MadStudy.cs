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

    /// <summary>All trainings that are asked for: what counts most first, so that a study that is stopped early leaves whole tables for some points of the sweep.</summary>
    /// <param name="tasks">The tasks.</param>
    /// <param name="mixers">The mixers.</param>
    /// <param name="isFull">Whether to train at the harder settings too.</param>
    /// <param name="learningRates">Of the sweep.</param>
    /// <param name="weightDecays">Of the sweep.</param>
    /// <param name="seeds">How many seeds.</param>
    /// <param name="firstSeed">The first of them; the others follow it.</param>
    public static IReadOnlyList<MadPoint> Points(
        IReadOnlyList<MadTaskKind> tasks, IReadOnlyList<MadMixer> mixers, bool isFull, IReadOnlyList<double> learningRates, IReadOnlyList<double> weightDecays, int seeds, ulong firstSeed)
    {
        ArgumentNullException.ThrowIfNull(tasks);
        var points = new List<MadPoint>();
        int settings = isFull ? 1 + tasks.Max(task => task.Changes.Count) : 1;
        for (int setting = 0; setting < settings; setting++)
        {
            for (int seed = 0; seed < seeds; seed++)
            {
                foreach ((double decay, double rate) in weightDecays.SelectMany(decay => learningRates.Select(rate => (decay, rate))))
                {
                    foreach (MadTaskKind task in tasks.Where(task => setting <= task.Changes.Count))
                    {
                        MadSettings chosen = setting == 0 ? task.Baseline : task.Changes[setting - 1];
                        points.AddRange(mixers.Select(mixer => new MadPoint(task, chosen, chosen.DifferenceTo(task.Baseline), mixer, rate, decay, firstSeed + (ulong)seed)));
                    }
                }
            }
        }

        return points;
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
            double work = (double)task.InputLength * settings.TrainExamples * Epochs;
            return new StudyRun<MadResult>(point.ToString(), work, worker =>
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
        return FormattableString.Invariant($"accuracy {result.Outcome.Accuracy:0.00%} (epoch {result.Outcome.BestEpoch} of {result.Outcome.Epochs})");
    }

    private MadSettings Limited(MadSettings settings) => Limit == 0 ? settings : settings with
    {
        TrainExamples = Math.Min(Limit, settings.TrainExamples),
        TestExamples = Math.Min(Math.Max(1, Limit / 10), settings.TestExamples),
    };

    private MadTraining TrainingOf(MadPoint point, MadTask task)
    {
        var model = new MadModelConfig { Mixer = point.Mixer, Vocabulary = task.Settings.Vocabulary, Width = Width, Layers = Layers, Heads = Heads };
        model.Validate();
        return new MadTraining
        {
            Model = model, LearningRate = point.LearningRate, WeightDecay = point.WeightDecay, Seed = point.Seed, Epochs = Epochs, Batch = Batch,
            EnoughAccuracy = EnoughAccuracy, Precision = Precision, Extrapolation = task.IsCompression || task.Name == "memorization" ? [] : Extrapolation,
        };
    }
}
