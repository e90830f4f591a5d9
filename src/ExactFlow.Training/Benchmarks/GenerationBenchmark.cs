using ExactFlow.Models;
using ExactFlow.Tensors;
using ExactFlow.Tensors.MatrixProduct;

namespace ExactFlow.Training.Benchmarks;

/// <summary>Decoding one sequence: a token reads every weight once, so the memory's read rate is the ceiling for models larger than the caches.</summary>
public static class GenerationBenchmark
{
    private const int Vocabulary = 32_000;
    private const int TokensPerSample = 8;

    /// <summary>Runs the suite.</summary>
    public static void Run(BenchmarkRun run)
    {
        ArgumentNullException.ThrowIfNull(run);
        using var device = new CpuDevice(run.Options.Threads);
        CompareWithReading(run, device);
        CompareEarlyAndLate(run, device);
    }

    private static unsafe void CompareWithReading(BenchmarkRun run, CpuDevice device)
    {
        foreach (string rule in (string[])["efla", "deltanet"])
        {
            string name = $"{rule}, hidden 1024, 24 layers, 374M parameters";
            if (!run.Wants(name))
            {
                continue;
            }

            using var decoding = new Decoding(device, ModelPresets.Create("340m", MixerKind.Parse(rule), Vocabulary));
            long floats = decoding.BytesPerToken / sizeof(float);
            using Tensor weights = device.Persistent([checked((int)floats)]);
            var read = new Contender("reading", () => MachineCeilings.Read(device.Workers, weights.Floats, floats));
            run.Compare(name, 1e-9 * decoding.BytesPerToken, "GB/s", read, new Contender("decoding", decoding.Next));
        }
    }

    /// <summary>Time per token in the beginning and after many tokens; 1 means that it does not grow.</summary>
    private static void CompareEarlyAndLate(BenchmarkRun run, CpuDevice device)
    {
        const int Late = 20_000;
        string name = $"efla, hidden 256: the first tokens and those after {Late}";
        if (!run.Wants(name))
        {
            return;
        }

        LanguageModelConfig config = ModelPresets.Create("compare", MixerKind.Parse("efla"), 4096);
        using var early = new Decoding(device, config);
        using var late = new Decoding(device, config);
        for (int i = 0; i < Late; i++)
        {
            late.Next();
        }

        run.Compare(name, TokensPerSample, "tok/s", new Contender("first", () => early.Several(fresh: true)), new Contender("late", () => late.Several(fresh: false)));
    }

    /// <summary>A model that decodes one sequence.</summary>
    private sealed class Decoding : IDisposable
    {
        private readonly CpuDevice device;
        private readonly LanguageModel model;
        private readonly ModelState state;
        private readonly float[] logits;
        private int token = 1;

        public Decoding(CpuDevice device, LanguageModelConfig config)
        {
            this.device = device;
            model = new LanguageModel(device, config);
            state = model.CreateState();
            logits = new float[config.VocabularySize];
        }

        /// <summary>Bytes of weights that a token needs: all of them but the embedding table, of which it needs one row.</summary>
        public long BytesPerToken => sizeof(float) * (model.ParameterCount - (model.Config.TieEmbeddings ? 0L : (long)(model.Config.VocabularySize - 1) * model.Config.HiddenSize));

        public void Next()
        {
            using var step = device.BeginStep(recordGradients: false);
            Span<int> ids = [token];
            model.LastLogits(model.Forward(device.From<int>(ids, [1, 1]), state: state)).CopyTo<float>(logits);
            token = (token * 31 + 7) % model.Config.VocabularySize;
        }

        public void Several(bool fresh)
        {
            if (fresh)
            {
                state.Reset();
            }

            for (int i = 0; i < TokensPerSample; i++)
            {
                Next();
            }
        }

        public void Dispose()
        {
            state.Dispose();
            model.Dispose();
        }
    }
}
