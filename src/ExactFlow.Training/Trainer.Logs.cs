using System.Text.Json;
using ExactFlow.Training.Tracking;

namespace ExactFlow.Training;

/// <content>The lines of the logs.</content>
public sealed partial class Trainer
{
    private TensorBoardWriter? tensorBoard;

    /// <summary>A run that goes on, or begins again where another had begun, tells TensorBoard to forget the steps it will write anew.</summary>
    private void OpenTensorBoard()
    {
        bool hasEvents = Directory.EnumerateFiles(run.FullPath, "events.out.tfevents.*").Any();
        tensorBoard?.Dispose();
        tensorBoard = new TensorBoardWriter(run.FullPath, hasEvents ? StepsDone : null);
    }

    private void Log(in StepRecord record)
    {
        Utf8JsonWriter line = run.Metrics.Begin("step", record.Step);
        WriteFinite(line, "loss", record.Loss);
        line.WriteNumber("learning_rate", record.LearningRate);
        WriteFinite(line, "gradient_norm", record.GradientNorm);
        line.WriteNumber("tokens", (long)record.Step * record.Tokens);
        line.WriteNumber("skipped", record.SkippedSteps);
        run.Metrics.End();
        tensorBoard?.Scalar("loss/training", record.Step, record.Loss);
        tensorBoard?.Scalar("optimizer/learning_rate", record.Step, record.LearningRate);
        tensorBoard?.Scalar("optimizer/gradient_norm", record.Step, record.GradientNorm);
        tensorBoard?.Scalar("speed/tokens_per_second", record.Step, record.TokensPerSecond);

        line = run.Timings.Begin("step", record.Step);
        line.WriteNumber("milliseconds", record.Milliseconds);
        line.WriteNumber("tokens_per_second", record.TokensPerSecond);
        line.WriteNumber("flops_per_second", record.FlopsPerSecond);
        run.Timings.End();
    }

    private void Log(ValidationResult result)
    {
        Utf8JsonWriter line = run.Metrics.Begin("validation", StepsDone);
        WriteFinite(line, "loss", result.Loss);
        WriteFinite(line, "perplexity", result.Perplexity);
        WriteFinite(line, "bits_per_byte", result.BitsPerByte);
        run.Metrics.End();
        tensorBoard?.Scalar("loss/validation", StepsDone, result.Loss);
        tensorBoard?.Scalar("bits_per_byte/validation", StepsDone, result.BitsPerByte);
        tensorBoard?.Flush();
    }

    private void Log(SampleText sample)
    {
        Utf8JsonWriter line = run.Metrics.Begin("sample", StepsDone);
        line.WriteString("prompt", sample.Prompt);
        line.WriteString("text", sample.Text);
        run.Metrics.End();
        tensorBoard?.Text("sample", StepsDone, sample.Prompt + sample.Text);
    }

    /// <summary>JSON has no NaN and no infinity: they become null.</summary>
    private static void WriteFinite(Utf8JsonWriter line, string name, double value)
    {
        if (double.IsFinite(value))
        {
            line.WriteNumber(name, value);
        }
        else
        {
            line.WriteNull(name);
        }
    }
}
