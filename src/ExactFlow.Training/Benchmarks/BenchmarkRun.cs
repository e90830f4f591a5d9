using System.Diagnostics;
using System.Text.Json;
using System.Text.Json.Serialization;
using ExactFlow.Cuda;
using ExactFlow.Tensors.Simd;
using ExactFlow.Training.Runs;

namespace ExactFlow.Training.Benchmarks;

/// <summary>
/// Measures and collects. Contenders of a case take turns (A B A B ...), each for a few milliseconds at a time, so that a slower or faster minute of the
/// machine meets all of them alike; ratios are taken round by round, and medians over the rounds.
/// </summary>
/// <param name="options">What is to be measured.</param>
/// <param name="output">Where the table goes.</param>
/// <param name="gpu">The GPU to measure, or null for the CPU; the caller owns it.</param>
public sealed class BenchmarkRun(BenchmarkOptions options, TextWriter output, CudaDevice? gpu = null)
{
    private const double SecondsPerSample = 0.008;
    private const int FewestRounds = 5, MostRepeats = 10_000;
    private static readonly JsonSerializerOptions Written = new()
    {
        PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower,
        DefaultIgnoreCondition = JsonIgnoreCondition.WhenWritingNull,
    };

    private readonly List<Measurement> measurements = [];
    private string suite = "";
    private CudaCeilings? ceilings;

    /// <summary>What is to be measured.</summary>
    public BenchmarkOptions Options => options;

    /// <summary>Where the table goes, for remarks.</summary>
    public TextWriter Output => output;

    /// <summary>The GPU to measure, or null for the CPU.</summary>
    public CudaDevice? Gpu => gpu;

    /// <summary>Everything measured so far.</summary>
    public IReadOnlyList<Measurement> Measurements => measurements;

    /// <summary>The thread counts to run at: what was asked for, or one and all.</summary>
    public IReadOnlyList<int> ThreadCounts => options.Threads > 0 ? [options.Threads] : Environment.ProcessorCount > 1 ? [1, Environment.ProcessorCount] : [1];

    /// <summary>What shares of a GPU are shares of: measured when first asked for, unless it is set before.</summary>
    /// <exception cref="InvalidOperationException">The run measures the CPU.</exception>
    public CudaCeilings Ceilings
    {
        get => ceilings ??= MeasureCeilings();
        init => ceilings = value;
    }

    /// <summary>Starts a suite.</summary>
    public void Begin(BenchmarkSuite next)
    {
        ArgumentNullException.ThrowIfNull(next);
        suite = next.Name;
        string where = gpu is null ? $"SIMD {Simd.Name(Simd.Level)}" : gpu.ModelName;
        output.WriteLine($"\n{next.Name}: {next.Summary} ({where})");
        output.WriteLine($"  {"case",-44}{"contender",-16}{"time",12}{"rate",20}{"ratio",8}{(gpu is null ? "" : "   of copy   of product")}");
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

        using CudaTimer? timer = gpu is null ? null : new CudaTimer(gpu);
        int[] repeats = new int[contenders.Length];
        var samples = new List<double>[contenders.Length];
        for (int i = 0; i < contenders.Length; i++)
        {
            repeats[i] = Calibrate(contenders[i], timer);
            samples[i] = [];
        }

        long start = Stopwatch.GetTimestamp();
        for (int round = 0; round < FewestRounds || Stopwatch.GetElapsedTime(start).TotalSeconds < options.SecondsPerCase; round++)
        {
            for (int i = 0; i < contenders.Length; i++)
            {
                samples[i].Add(Time(contenders[i], repeats[i], timer));
            }
        }

        var results = new Measurement[contenders.Length];
        for (int i = 0; i < contenders.Length; i++)
        {
            double seconds = Median(samples[i]);
            double own = contenders[i].Work ?? work;
            double share = own / (contenders[0].Work ?? work);
            double ratio = share * Median(samples[0].Zip(samples[i], (first, second) => first / second));
            results[i] = Add(name, contenders[i].Name, seconds, own / seconds, unit, ratio, contenders[i].Bytes, contenders[i].Flops, isFirst: i == 0);
        }

        return results;
    }

    /// <summary>Adds and shows a figure that was measured elsewhere.</summary>
    public void Report(string name, string contender, double rate, string unit, double ratio = 1) => Add(name, contender, 0, rate, unit, ratio);

    /// <summary>Adds and shows the time of something measured elsewhere.</summary>
    /// <param name="name">The case.</param>
    /// <param name="contender">The contender.</param>
    /// <param name="seconds">Time of doing the work once.</param>
    /// <param name="work">Units of work of doing it once.</param>
    /// <param name="unit">Unit of the rate.</param>
    /// <param name="ratio">Its rate divided by that of what it is compared with.</param>
    /// <param name="bytes">Bytes that it must move, or 0.</param>
    /// <param name="flops">Its floating-point operations, or 0.</param>
    /// <param name="memory">Bytes of the GPU's memory that it held, or 0.</param>
    public void ReportTime(string name, string contender, double seconds, double work, string unit, double ratio = 1, double bytes = 0, double flops = 0, long memory = 0)
        => Add(name, contender, seconds, work / seconds, unit, ratio, bytes, flops, memory);

    /// <summary>The device, its ceilings and all measurements as one line of JSON.</summary>
    public string ToJson() => JsonSerializer.Serialize(
        new
        {
            Device = gpu?.Name ?? "cpu",
            DeviceName = gpu?.ModelName ?? MachineDescription.Processor(),
            Driver = gpu is null ? null : MachineDescription.NvidiaDriver(),
            Commit = MachineDescription.Commit(),
            Simd = Simd.Name(Simd.Level),
            Processors = Environment.ProcessorCount,
            ceilings?.CopyGigabytesPerSecond,
            ceilings?.MatrixProductTeraflops,
            Measurements = measurements,
        },
        Written);

    private Measurement Add(
        string name, string contender, double seconds, double rate, string unit, double ratio, double bytes = 0, double flops = 0, long memory = 0, bool isFirst = true)
    {
        var measurement = new Measurement(suite, name, contender, seconds, rate, unit, ratio)
        {
            Bytes = bytes > 0 ? bytes : null,
            CopyShare = bytes > 0 && gpu is not null ? bytes / seconds / (1e9 * Ceilings.CopyGigabytesPerSecond) : null,
            Flops = flops > 0 ? flops : null,
            ProductShare = flops > 0 && gpu is not null ? flops / seconds / (1e12 * Ceilings.MatrixProductTeraflops) : null,
            MemoryBytes = memory > 0 ? memory : null,
        };
        measurements.Add(measurement);
        string time = seconds > 0 ? $"{seconds * 1e3,9:F3} ms" : $"{"",12}";
        string held = memory > 0 ? $"   {memory / (double)(1 << 30):F1} GiB" : "";
        output.WriteLine($"  {(isFirst ? name : ""),-44}{contender,-16}{time}{rate,12:F1} {unit,-7}{ratio,8:F3}{measurement.CopyShare,10:F3}{measurement.ProductShare,13:F3}{held}");
        return measurement;
    }

    private CudaCeilings MeasureCeilings()
    {
        var measured = CudaCeilings.Measure(gpu ?? throw new InvalidOperationException("The ceilings of a GPU were asked of a run that measures the CPU."));
        gpu.Pool.Trim();
        return measured;
    }

    /// <summary>Warms up until the code is compiled at its final tier, and finds how often to repeat for one sample.</summary>
    private static int Calibrate(Contender contender, CudaTimer? timer)
    {
        long start = Stopwatch.GetTimestamp();
        int repeats = 0;
        while (repeats < 2 || (Stopwatch.GetElapsedTime(start).TotalSeconds < 5 * SecondsPerSample && repeats < MostRepeats))
        {
            Time(contender, 1, timer);
            repeats++;
        }

        return (int)Math.Clamp(SecondsPerSample / (Time(contender, 1, timer) * contender.Repetitions), 1, MostRepeats);
    }

    /// <summary>Seconds of doing the work once.</summary>
    private static double Time(Contender contender, int repeats, CudaTimer? timer)
    {
        bool isQueued = contender.IsQueued && timer is not null;
        long start = Stopwatch.GetTimestamp();
        if (isQueued)
        {
            timer!.Start();
        }

        for (int i = 0; i < repeats; i++)
        {
            contender.Run();
        }

        if (isQueued)
        {
            timer!.Stop();
        }

        double seconds = isQueued ? timer!.WaitForElapsed().TotalSeconds : Stopwatch.GetElapsedTime(start).TotalSeconds;
        return seconds / repeats / contender.Repetitions;
    }

    private static double Median(IEnumerable<double> values)
    {
        double[] sorted = [.. values.Order()];
        return (sorted[(sorted.Length - 1) / 2] + sorted[sorted.Length / 2]) / 2;
    }
}
