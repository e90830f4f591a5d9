using System.Text.Json;
using ExactFlow.Training.Report;

namespace ExactFlow.Training.Runs;

/// <summary>Reads the logs of a run back.</summary>
public static class RunRecords
{
    /// <summary>The curves of a <c>metrics.jsonl</c>, and the samples that were written on the way.</summary>
    public static (ReportCurve Curve, IReadOnlyList<ReportSample> Samples) ReadMetrics(string path)
    {
        var curve = new ReportCurve();
        var samples = new List<ReportSample>();
        foreach (JsonElement line in Lines(path))
        {
            int step = line.GetProperty("step").GetInt32();
            switch (line.GetProperty("kind").GetString())
            {
                case "step":
                    curve.Step.Add(step);
                    curve.Loss.Add(Number(line, "loss"));
                    curve.GradNorm.Add(Number(line, "gradient_norm"));
                    break;
                case "validation":
                    curve.ValidationStep.Add(step);
                    curve.ValidationLoss.Add(Number(line, "loss"));
                    break;
                case "sample":
                    samples.Add(new ReportSample(step, line.GetProperty("prompt").GetString()!, line.GetProperty("text").GetString()!));
                    break;
            }
        }

        return (curve, samples);
    }

    /// <summary>The median time of a step in a <c>timings.jsonl</c>: other programs' doings hit single steps, and a median does not mind them. NaN without steps.</summary>
    public static double MedianMilliseconds(string path)
    {
        double[] times = [.. Lines(path).Select(line => line.GetProperty("milliseconds").GetDouble()).Order()];
        return times.Length == 0 ? double.NaN : (times[(times.Length - 1) / 2] + times[times.Length / 2]) / 2;
    }

    private static IEnumerable<JsonElement> Lines(string path)
    {
        // The run itself may hold the file open for writing.
        using var stream = new FileStream(path, FileMode.Open, FileAccess.Read, FileShare.ReadWrite);
        using var reader = new StreamReader(stream);
        while (reader.ReadLine() is { } text)
        {
            using JsonDocument line = JsonDocument.Parse(text);
            yield return line.RootElement.Clone();
        }
    }

    private static double? Number(JsonElement line, string name)
        => line.GetProperty(name) is { ValueKind: JsonValueKind.Number } value ? value.GetDouble() : null;
}
