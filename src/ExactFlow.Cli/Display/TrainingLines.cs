using System.Globalization;
using ExactFlow.Training;

namespace ExactFlow.Cli.Display;

/// <summary>Training as plain lines, for logs and pipes: about a hundred step lines a run, and every validation, sample and warning.</summary>
/// <param name="output">Where lines go.</param>
internal sealed class TrainingLines(TextWriter output) : TrainingDisplay
{
    private const int LinesPerRun = 100;

    /// <inheritdoc/>
    public override ITrainingObserver Observe(string run) => new Observer(output, run);

    /// <inheritdoc/>
    public override void Say(string sentence) => output.WriteLine(sentence);

    /// <inheritdoc/>
    public override void Dispose() => output.Flush();

    /// <summary>The line of a step.</summary>
    internal static string Format(string run, in StepRecord step) => string.Create(
        CultureInfo.InvariantCulture,
        $"{run} | step {step.Step}/{step.Steps} ({step.Fraction * 100:0.0} %) | loss {step.Loss:0.0000} | lr {step.LearningRate:0.00e+0} | {step.Milliseconds:0.0} ms | {step.TokensPerSecond:#,0} tok/s | {step.FlopsPerSecond / 1e9:0.0} GFLOP/s ({Units.Percent(step.MachineShare)} of matmul) | left {Units.Duration(step.SecondsLeft)}");

    private sealed class Observer(TextWriter output, string run) : ITrainingObserver
    {
        public void OnStep(in StepRecord step)
        {
            int every = Math.Max(1, step.Steps / LinesPerRun);
            if (step.Step == 1 || step.Step % every == 0 || step.Step == step.Steps)
            {
                output.WriteLine(Format(run, step));
            }
        }

        public void OnValidation(int step, ValidationResult result) => output.WriteLine(string.Create(
            CultureInfo.InvariantCulture, $"{run} | step {step} | validation loss {result.Loss:0.0000} | perplexity {result.Perplexity:0.00} | {result.BitsPerByte:0.0000} bits per byte"));

        public void OnSample(int step, SampleText sample) => output.WriteLine($"{run} | step {step} | sample: {(sample.Prompt + sample.Text).ReplaceLineEndings(" ")}");

        public void OnCheckpoint(int step, string folder) => output.WriteLine($"{run} | step {step} | checkpoint {folder}");

        public void OnWarning(string sentence) => output.WriteLine($"{run} | {sentence}");
    }
}
