using System.Globalization;
using ExactFlow.Training;

namespace ExactFlow.Cli.Display;

/// <summary>Shows a comparison on a training display, and remembers what each run wrote last.</summary>
/// <param name="display">Where it is shown.</param>
/// <param name="namesSeeds">Whether runs are told apart by their seeds too.</param>
internal sealed class ComparisonDisplay(TrainingDisplay display, bool namesSeeds) : IComparisonObserver
{
    private readonly List<(string Run, SampleKeeper Keeper)> runs = [];

    /// <summary>The last sample of every run, in the order of the runs.</summary>
    public IEnumerable<(string Run, SampleText Sample)> LastSamples => runs.Where(run => run.Keeper.Last is not null).Select(run => (run.Run, run.Keeper.Last!));

    /// <inheritdoc/>
    public void OnStage(string stage) => display.Say(stage);

    /// <inheritdoc/>
    public void OnText(TokenizedText text) => display.Say(string.Create(
        CultureInfo.InvariantCulture,
        $"{text.Training.TokenCount:#,0} tokens to learn, {text.ValidationIds.Length:#,0} held out, vocabulary {text.Tokenizer.VocabularySize:#,0}"));

    /// <inheritdoc/>
    public ITrainingObserver Observe(string rule, int seed)
    {
        string run = namesSeeds ? string.Create(CultureInfo.InvariantCulture, $"{rule}, seed {seed}") : rule;
        var keeper = new SampleKeeper(display.Observe(run));
        runs.Add((run, keeper));
        return keeper;
    }

    private sealed class SampleKeeper(ITrainingObserver inner) : ITrainingObserver
    {
        public SampleText? Last { get; private set; }

        public void OnStep(in StepRecord step) => inner.OnStep(step);

        public void OnValidation(int step, ValidationResult result) => inner.OnValidation(step, result);

        public void OnSample(int step, SampleText sample)
        {
            Last = sample;
            inner.OnSample(step, sample);
        }

        public void OnCheckpoint(int step, string folder) => inner.OnCheckpoint(step, folder);

        public void OnWarning(string sentence) => inner.OnWarning(sentence);
    }
}
