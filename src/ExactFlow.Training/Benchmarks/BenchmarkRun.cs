using System.Diagnostics;
using System.Text.Json;
using ExactFlow.Tensors.Simd;

namespace ExactFlow.Training.Benchmarks;

/// <summary>
/// Measures and collects. Contenders of a case take turns (A B A B ...), each for a few milliseconds at a time, so that a slower or faster minute of the
/// machine meets all of them alike; ratios are taken round by round, and medians over the rounds.
/// </summary>
/// <param name="options">What is to be measured.</param>
/// <param name="output">Where the table goes.</param>
public sealed class BenchmarkRun(BenchmarkOptions options, TextWriter output)
{
    private const double SecondsPerSample = 0.008;
    private const int FewestRounds = 5;
    private static readonly JsonSerializerOptions Written = new() { PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower };

    private readonly List<Measurement> measurements = [];
    private string suite = "";

    /// <summary>What is to be measured.</summary>
    public BenchmarkOptions Options => options;

    /// <summary>Where the table goes, for remarks.</summary>
    public TextWriter Output => output;

    /// <summary>Everything measured so far.</summary>
    public IReadOnlyList<Measurement> Measurements => measurements;

    /// <summary>The thread counts to run at: what was asked for, or one and all.</summary>
    public IReadOnlyList<int> ThreadCounts => options.Threads > 0 ? [options.Threads] : Environment.ProcessorCount > 1 ? [1, Environment.ProcessorCount] : [1];

    /// <summary>Starts a suite.</summary>
    public void Begin(BenchmarkSuite next)
    {
        ArgumentNullException.ThrowIfNull(next);
        suite = next.Name;
        output.WriteLine($"\n{next.Name}: {next.Summary} (SIMD {Simd.Name(Simd.Level)})");
        output.WriteLine($"  {"case",-44}{"contender",-16}{"time",12}{"rate",20}{"ratio",8}");
    }

    /// <summary>Whether a case passes the filter: ask before preparing an expensive one.</summary>
    public bool Wants(string name) => name.Contains(options.Filter, StringComparison.OrdinalIgnoreCase);

    /// <summary>Measures the contenders of a case against each other; the first is the one that ratios refer to.</summary>
    /// <param name="name">The case.</param>
    /// <param name="work">Units of work of doing it once: GFLOP, GB or tokens.</param>
    /// <param name="unit">Unit of the rate.</param>
    /// <param name="contenders">The ways of doing it.</param>
    public IReadOnlyList<Measurement> Compare(string name, double work, string unit, params ReadOnlySpan<Contender> contenders)
    {
        if (!Wants(name))
        {
            return [];
        }

        int[] repeats = new int[contenders.Length];
        var samples = new List<double>[contenders.Length];
        for (int i = 0; i < contenders.Length; i++)
        {
            repeats[i] = Calibrate(contenders[i].Run);
            samples[i] = [];
        }

        long start = Stopwatch.GetTimestamp();
        for (int round = 0; round < FewestRounds || Stopwatch.GetElapsedTime(start).TotalSeconds < options.SecondsPerCase; round++)
        {
            for (int i = 0; i < contenders.Length; i++)
            {
                samples[i].Add(Time(contenders[i].Run, repeats[i]));
            }
        }

        var results = new Measurement[contenders.Length];
        for (int i = 0; i < contenders.Length; i++)
        {
            double seconds = Median(samples[i]);
            double own = contenders[i].Work ?? work;
            double share = own / (contenders[0].Work ?? work);
            double ratio = share * Median(samples[0].Zip(samples[i], (first, second) => first / second));
            results[i] = new Measurement(suite, name, contenders[i].Name, seconds, own / seconds, unit, ratio);
            output.WriteLine($"  {(i == 0 ? name : ""),-44}{contenders[i].Name,-16}{seconds * 1e3,9:F3} ms{own / seconds,12:F1} {unit,-7}{ratio,8:F3}");
        }

        measurements.AddRange(results);
        return results;
    }

    /// <summary>Adds and shows a figure that was measured elsewhere.</summary>
    public void Report(string name, string contender, double rate, string unit, double ratio = 1)
    {
        measurements.Add(new Measurement(suite, name, contender, 0, rate, unit, ratio));
        output.WriteLine($"  {name,-44}{contender,-16}{"",12}{rate,12:F1} {unit,-7}{ratio,8:F3}");
    }

    /// <summary>All measurements as one line of JSON.</summary>
    public string ToJson() => JsonSerializer.Serialize(new { Simd = Simd.Name(Simd.Level), Processors = Environment.ProcessorCount, Measurements = measurements }, Written);

    /// <summary>Warms up until the code is compiled at its final tier, and finds how often to repeat for one sample.</summary>
    private static int Calibrate(Action work)
    {
        long start = Stopwatch.GetTimestamp();
        int repeats = 0;
        while (repeats < 2 || (Stopwatch.GetElapsedTime(start).TotalSeconds < 5 * SecondsPerSample && repeats < 10_000))
        {
            work();
            repeats++;
        }

        return Math.Max(1, (int)(SecondsPerSample / Time(work, 1)));
    }

    private static double Time(Action work, int repeats)
    {
        long start = Stopwatch.GetTimestamp();
        for (int i = 0; i < repeats; i++)
        {
            work();
        }

        return Stopwatch.GetElapsedTime(start).TotalSeconds / repeats;
    }

    private static double Median(IEnumerable<double> values)
    {
        double[] sorted = [.. values.Order()];
        return (sorted[(sorted.Length - 1) / 2] + sorted[sorted.Length / 2]) / 2;
    }
}
