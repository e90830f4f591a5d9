using System.Diagnostics;
using ExactFlow.Cuda;
using ExactFlow.Models;
using ExactFlow.Tensors;

namespace ExactFlow.Training.Benchmarks;

/// <summary>
/// Generating text with a model of 374M parameters on a GPU, by the generator that everybody uses, tokens drawn and brought to the host. One sequence is bound
/// by reading the weights, so its rate comes with a share of the rate of copying. Times are those of the host's clock.
/// </summary>
internal static class CudaGenerationBenchmark
{
    /// <summary>Runs the suite on the run's GPU.</summary>
    public static void Run(BenchmarkRun run)
    {
        ArgumentNullException.ThrowIfNull(run);
        Run(run, new CudaBenchmarkSizes());
    }

    /// <summary>Runs the suite at given sizes.</summary>
    internal static void Run(BenchmarkRun run, CudaBenchmarkSizes sizes)
    {
        CudaDevice device = run.Gpu!;
        _ = run.Ceilings;
        foreach (string rule in sizes.Rules)
        {
            int[] batches = [.. sizes.Generation.Where(batch => run.Wants(Name(sizes, batch, rule)))];
            string late = $"{sizes.Model}, tokens after {sizes.GenerationLate} {rule}";
            bool wantsLate = rule == sizes.Rules[0] && run.Wants(late);
            if (batches.Length == 0 && !wantsLate)
            {
                continue;
            }

            using var model = new LanguageModel(device, ModelPresets.Create(sizes.Model, MixerKind.Parse(rule), sizes.Vocabulary), precision: DType.BFloat16);
            double alone = 0;
            foreach (int batch in batches)
            {
                double seconds = SecondsPerToken(model, sizes, batch);
                alone = alone > 0 ? alone : batch / seconds;
                run.ReportTime(Name(sizes, batch, rule), rule, seconds, batch, "tok/s", batch / seconds / alone, BytesPerStep(model, batch));
            }

            if (wantsLate)
            {
                CompareEarlyAndLate(run, model, sizes, late);
            }
        }
    }

    private static string Name(CudaBenchmarkSizes sizes, int batch, string rule) => $"{sizes.Model}, {batch} {(batch == 1 ? "sequence" : "sequences")} {rule}";

    /// <summary>Every weight is read once for all sequences (of the embedding table a row for each), every state read and written.</summary>
    private static double BytesPerStep(LanguageModel model, int batch)
    {
        LanguageModelConfig config = model.Config;
        double table = config.TieEmbeddings ? 0 : (double)(config.VocabularySize - batch) * config.HiddenSize;
        using ModelState state = model.CreateState(batch);
        return (2 * (model.ParameterCount - table)) + (2.0 * state.ByteCount);
    }

    /// <summary>Time from one token of all sequences to the next, after the first ones.</summary>
    private static double SecondsPerToken(LanguageModel model, CudaBenchmarkSizes sizes, int batch)
    {
        int[][] prompts = [.. Enumerable.Range(0, batch).Select(i => (int[])[1 + i])];
        int last = sizes.GenerationWarmUp + sizes.GenerationTokens, drawn = 0;
        long start = 0, end = 0;
        new Generator(model).Generate(prompts, new GenerationOptions { MaxTokens = last, Sampling = new SamplerOptions { TopK = 50 } }, (sequence, _) =>
        {
            if (sequence == batch - 1 && ++drawn == sizes.GenerationWarmUp)
            {
                start = Stopwatch.GetTimestamp();
            }
            else if (sequence == batch - 1 && drawn == last)
            {
                end = Stopwatch.GetTimestamp();
            }
        });
        return Stopwatch.GetElapsedTime(start, end).TotalSeconds / sizes.GenerationTokens;
    }

    /// <summary>Time per token in the beginning and after many tokens, in one long text; a ratio of 1 means that it does not grow.</summary>
    private static void CompareEarlyAndLate(BenchmarkRun run, LanguageModel model, CudaBenchmarkSizes sizes, string name)
    {
        int early = sizes.GenerationWarmUp, count = sizes.GenerationTokens, late = sizes.GenerationLate, drawn = 0;
        var marks = new Dictionary<int, long> { [early] = 0, [early + count] = 0, [late] = 0, [late + count] = 0 };
        foreach (int _ in new Generator(model).Stream([1], new GenerationOptions { MaxTokens = late + count, Sampling = new SamplerOptions { TopK = 50 } }))
        {
            drawn++;
            if (marks.ContainsKey(drawn))
            {
                marks[drawn] = Stopwatch.GetTimestamp();
            }
        }

        double first = Stopwatch.GetElapsedTime(marks[early], marks[early + count]).TotalSeconds / count, last = Stopwatch.GetElapsedTime(marks[late], marks[late + count]).TotalSeconds / count;
        run.ReportTime(name, $"first {count}", first, 1, "tok/s");
        run.ReportTime(name, $"late {count}", last, 1, "tok/s", first / last);
    }
}
