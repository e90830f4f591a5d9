using ExactFlow.Models.Text;
using ExactFlow.Tensors;
using ExactFlow.Training.Benchmarks;
using ExactFlow.Training.Data;

namespace ExactFlow.Benchmarks;

/// <summary>
/// Learning a byte-level BPE and encoding with it: on the first 30 MB of <c>books/train-*.txt</c> in the folder that EXACTFLOW_DATA names, or else on the prose of
/// the .NET reference documentation. Ratios refer to one thread.
/// </summary>
public static class TokenizerSuite
{
    private const int Megabyte = 1_000_000;
    private const int MostBytes = 30 * Megabyte;

    /// <summary>Runs the suite.</summary>
    public static void Run(BenchmarkRun run)
    {
        ReadOnlyMemory<byte> text = ReadText(out string source);
        double megabytes = (double)text.Length / Megabyte;
        run.Output.WriteLine($"  {megabytes:F1} MB of {source}");
        foreach (int vocabulary in (ReadOnlySpan<int>)[4096, 32_000])
        {
            if (!run.Wants($"train {vocabulary}") && !run.Wants($"encode {vocabulary}") && !run.Wants($"decode {vocabulary}"))
            {
                continue;
            }

            BytePairTokenizer tokenizer = BytePairTokenizer.Train([text], vocabulary);
            int[] ids = tokenizer.EncodeLong(text);
            run.Compare($"train {vocabulary}", megabytes, "MB/s", ForThreads(run, threads => _ = BytePairTokenizer.Train([text], vocabulary, threads: threads)));
            run.Compare($"encode {vocabulary}", megabytes, "MB/s", ForThreads(run, threads => _ = tokenizer.EncodeLong(text, threads)));
            run.Compare($"decode {vocabulary}", megabytes, "MB/s", new Contender("1 thread", () => _ = tokenizer.DecodeBytes(ids)));
            run.Report($"compression {vocabulary}", "ExactFlow", (double)text.Length / ids.Length, "B/token");
        }

        RunReal(run, text, megabytes);
    }

    /// <summary>The tokenizers of widely used models, where the shared data has them.</summary>
    private static void RunReal(BenchmarkRun run, ReadOnlyMemory<byte> text, double megabytes)
    {
        foreach (string family in (ReadOnlySpan<string>)["gpt2", "mistral-7b-v0.1", "gpt-neox-olmo-dolma-v1_5", "qwen3"])
        {
            string folder = Path.Combine(Environment.GetEnvironmentVariable("EXACTFLOW_DATA") ?? "", "tokenizers", family);
            if (!Directory.Exists(folder) || !(run.Wants($"load {family}") || run.Wants($"encode {family}") || run.Wants($"decode {family}")))
            {
                continue;
            }

            BytePairTokenizer tokenizer = BytePairTokenizer.Load(folder);
            int[] ids = tokenizer.EncodeLong(text);
            run.Compare($"load {family}", 1, "1/s", new Contender("1 thread", () => _ = BytePairTokenizer.Load(folder)));
            run.Compare($"encode {family}", megabytes, "MB/s", ForThreads(run, threads => _ = tokenizer.EncodeLong(text, threads)));
            run.Compare($"decode {family}", megabytes, "MB/s", new Contender("1 thread", () => _ = tokenizer.Decode(ids)));
        }
    }

    private static Contender[] ForThreads(BenchmarkRun run, Action<int> work)
        => [.. run.ThreadCounts.Select(threads => new Contender(threads == 1 ? "1 thread" : $"{threads} threads", () => work(threads)))];

    private static ReadOnlyMemory<byte> ReadText(out string source)
    {
        if (Environment.GetEnvironmentVariable("EXACTFLOW_DATA") is not { Length: > 0 } data)
        {
            TextCorpus corpus = TextSource.Load([], [], 0.05);
            source = corpus.Source;
            return corpus.Training;
        }

        source = Path.Combine(data, "books");
        string[] files = Directory.Exists(source) ? [.. Directory.GetFiles(source, "train-*.txt").Order(StringComparer.Ordinal)] : [];
        if (files.Length == 0)
        {
            throw new InvalidInputException($"EXACTFLOW_DATA is '{data}', but '{source}' holds no train-*.txt; name the folder of the shared data, or unset the variable.");
        }

        using MemoryStream all = new();
        foreach (string file in files.TakeWhile(_ => all.Length < MostBytes))
        {
            all.Write(File.ReadAllBytes(file));
        }

        return all.GetBuffer().AsMemory(0, (int)Math.Min(MostBytes, all.Length));
    }
}
