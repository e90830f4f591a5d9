using ExactFlow.Tensors;
using ExactFlow.Training.Experiments.Mad.Tasks;

namespace ExactFlow.Training.Experiments.Mad;

/// <summary>A task by its name: its baseline settings and the harder ones, of which each changes one thing (experiments of arXiv 2403.17844, Appendix).</summary>
public sealed class MadTaskKind
{
    /// <summary>Name of all settings of a task together, its baseline and the harder ones.</summary>
    public const string Full = "full";

    private static readonly int[] FewerExamples = [6400, 3200, 1600, 800];

    private readonly Func<MadSettings, MadTask> create;

    private MadTaskKind(string name, bool isOfMad, MadSettings baseline, IEnumerable<MadSettings> changes, Func<MadSettings, MadTask> create)
    {
        Name = name;
        IsOfMad = isOfMad;
        Baseline = baseline;
        Changes = [.. changes];
        this.create = create;
    }

    /// <summary>All tasks: MAD's six in the order of its figures, then the two of state tracking.</summary>
    public static IReadOnlyList<MadTaskKind> All { get; } =
    [
        Compression(), InContextRecall(), NoisyRecall(), FuzzyRecall(), Memorization(), SelectiveCopying(),
        new("parity", false, new MadSettings { Vocabulary = 2, Length = 128 }, [], static settings => new ParityTask(settings)),
        new("s5", false, new MadSettings { Vocabulary = 120, Length = 128 }, [], static settings => new PermutationTask(settings)),
    ];

    /// <summary>Name, as given to <c>--tasks</c>.</summary>
    public string Name { get; }

    /// <summary>Whether it is one of MAD's six; the mean over tasks is over these.</summary>
    public bool IsOfMad { get; }

    /// <summary>The baseline.</summary>
    public MadSettings Baseline { get; }

    /// <summary>Harder settings: each changes one variable of the baseline.</summary>
    public IReadOnlyList<MadSettings> Changes { get; }

    /// <summary>The task of a name.</summary>
    /// <exception cref="InvalidInputException">No task has that name; the sentence lists them.</exception>
    public static MadTaskKind Parse(string name)
        => All.FirstOrDefault(kind => kind.Name == name) ?? throw new InvalidInputException($"There is no task '{name}'; use one of {string.Join(", ", All.Select(kind => kind.Name))}.");

    /// <summary>The task's settings out of those that are asked for, by their names, the baseline first.</summary>
    /// <param name="asked"><see cref="MadSettings.Baseline"/>, any of <see cref="MadSettings.Variables"/> for the settings that change it, or <see cref="Full"/> for all.</param>
    public IEnumerable<(string Name, MadSettings Settings)> SettingsOf(IReadOnlyCollection<string> asked)
        => Changes.Prepend(Baseline).Select(settings => (settings.DifferenceTo(Baseline), settings)).Where(setting => asked.Contains(Full) || asked.Contains(setting.Item1.Split('=')[0]));

    /// <summary>The task at a difficulty.</summary>
    /// <exception cref="InvalidInputException">The settings are impossible; the sentence holds the inequality that fails.</exception>
    public MadTask Create(MadSettings settings)
    {
        ArgumentNullException.ThrowIfNull(settings);
        if (settings.TrainExamples < 1 || settings.TestExamples < 1)
        {
            throw new InvalidInputException($"The task {Name} cannot be made with these settings: training examples {settings.TrainExamples} >= 1 and test examples {settings.TestExamples} >= 1 must hold; ask for some of both.");
        }

        return create(settings);
    }

    /// <inheritdoc/>
    public override string ToString() => Name;

    private static MadTaskKind Compression()
    {
        var baseline = new MadSettings { Vocabulary = 16, Length = 32 };
        return new("compression", true, baseline, [.. Vocabularies(baseline, 32, 64, 128), .. Lengths(baseline, 64, 128, 256), .. Examples(baseline)], static settings => new CompressionTask(settings));
    }

    private static MadTaskKind InContextRecall()
    {
        var baseline = new MadSettings { Vocabulary = 16, Length = 128 };
        return new("in_context_recall", true, baseline, [.. Vocabularies(baseline, 32, 64, 128), .. Lengths(baseline, 256, 512, 1024), .. Examples(baseline)], static settings => new RecallTask("in_context_recall", settings));
    }

    private static MadTaskKind NoisyRecall()
    {
        var baseline = new MadSettings { Vocabulary = 32, Length = 128, NoiseVocabulary = 16, Noise = 0.2 };
        IEnumerable<MadSettings> noises = new[] { 0.4, 0.6, 0.8 }.Select(noise => baseline with { Noise = noise });
        return new("noisy_recall", true, baseline, [.. Vocabularies(baseline, 48, 80, 144), .. Lengths(baseline, 256, 512, 1024), .. noises, .. Examples(baseline)], static settings => new RecallTask("noisy_recall", settings));
    }

    private static MadTaskKind FuzzyRecall()
    {
        var baseline = new MadSettings { Vocabulary = 16, Length = 128, Motif = 3 };
        return new("fuzzy_recall", true, baseline, [.. Vocabularies(baseline, 32, 64, 128), .. Lengths(baseline, 256, 512, 1024), .. Examples(baseline)], static settings => new FuzzyRecallTask(settings));
    }

    private static MadTaskKind Memorization()
    {
        var baseline = new MadSettings { Vocabulary = 256, Length = 32, TrainExamples = 256 };
        return new("memorization", true, baseline, Vocabularies(baseline, 512, 1024, 2048, 4096, 8192), static settings => new MemorizationTask(settings));
    }

    private static MadTaskKind SelectiveCopying()
    {
        var baseline = new MadSettings { Vocabulary = 16, Length = 256, Copies = 16 };
        IEnumerable<MadSettings> copies = new[] { 32, 64, 96 }.Select(count => baseline with { Copies = count });
        return new("selective_copying", true, baseline, [.. Vocabularies(baseline, 32, 64, 128), .. Lengths(baseline, 512, 1024), .. copies, .. Examples(baseline)], static settings => new SelectiveCopyingTask(settings));
    }

    private static IEnumerable<MadSettings> Vocabularies(MadSettings baseline, params int[] values) => values.Select(value => baseline with { Vocabulary = value });

    private static IEnumerable<MadSettings> Lengths(MadSettings baseline, params int[] values) => values.Select(value => baseline with { Length = value });

    private static IEnumerable<MadSettings> Examples(MadSettings baseline) => FewerExamples.Select(value => baseline with { TrainExamples = value });
}
