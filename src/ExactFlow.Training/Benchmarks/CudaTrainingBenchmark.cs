using System.Diagnostics;
using ExactFlow.Cuda;
using ExactFlow.Models;
using ExactFlow.Operators;
using ExactFlow.Tensors;
using ExactFlow.Tensors.Randomness;

namespace ExactFlow.Training.Benchmarks;

/// <summary>
/// Whole training steps of a model of 374M parameters on a GPU, as a training run does them: token ids up, forward, backward, gradient norm, clipping, AdamW,
/// loss down, replayed from a graph. Times are those of the host's clock.
/// </summary>
internal static class CudaTrainingBenchmark
{
    /// <summary>Steps that are not timed: those before the step is captured, and its first replay.</summary>
    private const int WarmUps = 4;

    private const int FewestSteps = 5;

    /// <summary>Runs the suite on the run's GPU.</summary>
    public static void Run(BenchmarkRun run)
    {
        ArgumentNullException.ThrowIfNull(run);
        Run(run, new CudaBenchmarkSizes());
    }

    /// <summary>Runs the suite at given shapes: one model per rule, whose ratios refer to the first rule's rate.</summary>
    internal static void Run(BenchmarkRun run, CudaBenchmarkSizes sizes)
    {
        CudaDevice device = run.Gpu!;
        _ = run.Ceilings;
        var first = new Dictionary<string, double>(StringComparer.Ordinal);
        foreach (string rule in sizes.Rules)
        {
            Case[] cases = [.. Cases(sizes).Where(one => run.Wants($"{one.Name} {rule}"))];
            if (cases.Length > 0)
            {
                Measure(run, device, rule, sizes, cases, first);
            }
        }
    }

    /// <summary>Long batches also with recomputation, which is what makes them fit into less memory.</summary>
    private static IEnumerable<Case> Cases(CudaBenchmarkSizes sizes)
    {
        foreach ((int batch, int time) in sizes.Training)
        {
            yield return new Case($"{sizes.Model} {batch} x {time}", batch, time, Recomputation.None);
            if ((long)batch * time > 16_384)
            {
                yield return new Case($"{sizes.Model} {batch} x {time}, light recomputation", batch, time, Recomputation.Light);
            }
        }
    }

    private static void Measure(BenchmarkRun run, CudaDevice device, string rule, CudaBenchmarkSizes sizes, Case[] cases, Dictionary<string, double> first)
    {
        using var model = new LanguageModel(device, ModelPresets.Create(sizes.Model, MixerKind.Parse(rule), sizes.Vocabulary), precision: DType.BFloat16);
        using var optimizer = new AdamW(model.Parameters);
        foreach (Case one in cases)
        {
            model.Recompute(one.Recomputation);
            device.Pool.Trim();
            try
            {
                double seconds = SecondsPerStep(run, device, model, optimizer, one, out long memory), tokens = (double)one.Batch * one.Time, rate = tokens / seconds;
                first.TryAdd(one.Name, rate);
                run.ReportTime(one.Name, rule, seconds, tokens, "tok/s", rate / first[one.Name], flops: 3 * model.ForwardFlopsPerToken(one.Time) * tokens, memory: memory);
            }
            catch (OutOfMemoryException exception)
            {
                run.Output.WriteLine($"  {one.Name,-44}{rule,-16}does not fit: {exception.Message}");
            }
        }
    }

    /// <summary>Median time of a step, and the memory that was taken from the GPU for it, weights and optimizer included.</summary>
    private static double SecondsPerStep(BenchmarkRun run, CudaDevice device, LanguageModel model, AdamW optimizer, Case one, out long memory)
    {
        TokenStream text = RandomText(one, model.Config.VocabularySize);
        using var step = new GraphedStep(device, model.Loss, optimizer, new GraphedStepOptions(one.Batch, one.Time, Accumulation: 1, Clip: 1, UseGraph: true));
        for (int i = 0; i < WarmUps; i++)
        {
            step.Run(text, 0, learningRate: 1e-4f);
        }

        var seconds = new List<double>();
        long start = Stopwatch.GetTimestamp();
        while (seconds.Count < FewestSteps || Stopwatch.GetElapsedTime(start).TotalSeconds < run.Options.SecondsPerCase)
        {
            long began = Stopwatch.GetTimestamp();
            step.Run(text, 0, learningRate: 1e-4f);
            seconds.Add(Stopwatch.GetElapsedTime(began).TotalSeconds);
        }

        memory = device.Pool.ReservedBytes;
        seconds.Sort();
        return seconds[seconds.Count / 2];
    }

    private static TokenStream RandomText(Case one, int vocabulary)
    {
        var ids = new int[(one.Batch * one.Time) + 1];
        var random = new Philox(1, 1);
        for (int i = 0; i < ids.Length; i++)
        {
            ids[i] = random.Below((ulong)i, vocabulary);
        }

        return new TokenStream(ids, one.Time, seed: 1);
    }

    private sealed record Case(string Name, int Batch, int Time, Recomputation Recomputation);
}
