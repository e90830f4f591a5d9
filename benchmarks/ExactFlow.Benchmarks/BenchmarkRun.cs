using System.Diagnostics;
using System.Text.Json;
using ExactFlow.Tensors.Simd;

namespace ExactFlow.Benchmarks;

/// <summary>One way of doing the work of a case.</summary>
/// <param name="Name">Shown in the table.</param>
/// <param name="Work">Does the work once.</param>
public sealed record Contender(string Name, Action Work);

/// <summary>What was measured of one contender in one case.</summary>
/// <param name="Suite">Suite.</param>
/// <param name="Case">Case, the same for all contenders of a comparison.</param>
/// <param name="Contender">Contender.</param>
/// <param name="Seconds">Median time of doing the work once.</param>
/// <param name="Rate">Work per second, in <paramref name="Unit"/>.</param>
/// <param name="Unit">Unit of the rate, such as GFLOP/s.</param>
/// <param name="Ratio">Median over rounds of this contender's rate divided by the first contender's in the same round.</param>
public sealed record Measurement(string Suite, string Case, string Contender, double Seconds, double Rate, string Unit, double Ratio);

/// <summary>
/// Measures and collects. Contenders of a case take turns (A B A B ...), each for a few milliseconds at a time, so that a slower or faster minute of the
/// machine meets all of them alike; ratios are taken round by round, and medians over the rounds.
/// </summary>
public sealed class BenchmarkRun(BenchmarkOptions options)
{
    private const double SecondsPerSample = 0.008;
    private const int FewestRounds = 5;

    private readonly List<Measurement> measurements = [];
    private string suite = "";

    /// <summary>What the command line asked for.</summary>
    public BenchmarkOptions Options => options;

    /// <summary>Everything measured so far.</summary>
    public IReadOnlyList<Measurement> Measurements => measurements;

    /// <summary>The thread counts to run at: what was asked for, or one and all.</summary>
    public IReadOnlyList<int> ThreadCounts => options.Threads > 0 ? [options.Threads] : Environment.ProcessorCount > 1 ? [1, Environment.ProcessorCount] : [1];

    /// <summary>Starts a suite.</summary>
    public void Begin(Suite next)
    {
        suite = next.Name;
        Console.WriteLine($"\n{next.Name}: {next.Summary} (SIMD {Simd.Name(Simd.Level)})");
        Console.WriteLine($"  {"case",-44}{"contender",-16}{"time",12}{"rate",20}{"ratio",8}");
    }

    /// <summary>Whether a case passes the filter: ask before preparing an expensive one.</summary>
    public bool Wants(string name) => name.Contains(options.Filter, StringComparison.OrdinalIgnoreCase);

    /// <summary>Measures the contenders of a case against each other; the first is the one that ratios refer to.</summary>
    /// <param name="name">The case.</param>
    /// <param name="work">Units of work of doing it once, in billions: GFLOP or GB.</param>
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
            repeats[i] = Calibrate(contenders[i].Work);
            samples[i] = [];
        }

        long start = Stopwatch.GetTimestamp();
        for (int round = 0; round < FewestRounds || Stopwatch.GetElapsedTime(start).TotalSeconds < options.SecondsPerCase; round++)
        {
            for (int i = 0; i < contenders.Length; i++)
            {
                samples[i].Add(Time(contenders[i].Work, repeats[i]));
            }
        }

        var results = new Measurement[contenders.Length];
        for (int i = 0; i < contenders.Length; i++)
        {
            double seconds = Median(samples[i]);
            double ratio = Median(samples[0].Zip(samples[i], (first, own) => first / own));
            results[i] = new Measurement(suite, name, contenders[i].Name, seconds, work / seconds, unit, ratio);
            Console.WriteLine($"  {(i == 0 ? name : ""),-44}{contenders[i].Name,-16}{seconds * 1e3,9:F3} ms{work / seconds,12:F1} {unit,-7}{ratio,8:F3}");
        }

        measurements.AddRange(results);
        return results;
    }

    /// <summary>Adds and shows a figure that was measured elsewhere.</summary>
    public void Report(string name, string contender, double rate, string unit, double ratio = 1)
    {
        measurements.Add(new Measurement(suite, name, contender, 0, rate, unit, ratio));
        Console.WriteLine($"  {name,-44}{contender,-16}{"",12}{rate,12:F1} {unit,-7}{ratio,8:F3}");
    }

    /// <summary>All measurements as one line of JSON.</summary>
    public string ToJson() => JsonSerializer.Serialize(new { simd = Simd.Name(Simd.Level), processors = Environment.ProcessorCount, measurements }, JsonSerializerOptions.Web);

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
