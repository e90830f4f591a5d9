using ExactFlow.Models;
using ExactFlow.Operators;
using ExactFlow.Tensors;
using ExactFlow.Tensors.Randomness;

namespace ExactFlow.Training.Benchmarks;

/// <summary>Whole training steps (loss, gradients, clipping, AdamW) of small language models, and how the cost grows with the length of the text.</summary>
public static class TrainingBenchmark
{
    private const int Vocabulary = 4096;
    private const int Tokens = 2048;

    /// <summary>Runs the suite.</summary>
    public static void Run(BenchmarkRun run)
    {
        ArgumentNullException.ThrowIfNull(run);
        using var device = new CpuDevice(run.Options.Threads);
        using Tensor square = MatrixProductBenchmark.Random(device, [3, 1024, 1024], 1);
        Contender ceiling = MatrixProductBenchmark.Ceiling(device, square);
        CompareRules(run, device, ceiling);
        CompareLengths(run, device);
    }

    private static void CompareRules(BenchmarkRun run, CpuDevice device, Contender ceiling)
    {
        const string Name = "step of 8 x 256 tokens, hidden 256, 4 layers";
        if (!run.Wants(Name))
        {
            return;
        }

        using var efla = new Steps(device, "efla", 8, Tokens / 8);
        using var deltaNet = new Steps(device, "deltanet", 8, Tokens / 8);
        using var gated = new Steps(device, "gated_efla", 8, Tokens / 8);
        run.Compare(Name, efla.Gigaflops, "GFLOP/s", ceiling, efla.AsContender("efla"), deltaNet.AsContender("deltanet"), gated.AsContender("gated_efla"));
        run.Report("allocated per step", "efla", efla.AllocatedPerStep() / 1024.0, "KB");
    }

    /// <summary>The same number of tokens as one long text and as many short ones: in rates of tokens, 1 means that the cost is linear.</summary>
    private static void CompareLengths(BenchmarkRun run, CpuDevice device)
    {
        const int Long = 65_536;
        const int Short = 2048;
        string name = $"efla, {Long} tokens as {Long / Short} texts and as one";
        if (run.Wants(name))
        {
            using var many = new Steps(device, "efla", Long / Short, Short);
            using var one = new Steps(device, "efla", 1, Long);
            run.Compare(name, Long, "tok/s", many.AsContender($"{Long / Short} x {Short}"), one.AsContender($"1 x {Long}"));
        }
    }

    /// <summary>A model with its optimizer and a batch to repeat.</summary>
    private sealed class Steps : IDisposable
    {
        private readonly CpuDevice device;
        private readonly LanguageModel model;
        private readonly AdamW optimizer;
        private readonly int[] inputs;
        private readonly int[] targets;
        private readonly Shape shape;

        public Steps(CpuDevice device, string rule, int batch, int time)
        {
            this.device = device;
            model = new LanguageModel(device, ModelPresets.Create("compare", MixerKind.Parse(rule), Vocabulary));
            optimizer = new AdamW(model.Parameters, new AdamWOptions());
            shape = [batch, time];
            inputs = new int[shape.Count];
            targets = new int[shape.Count];
            var random = new Philox(1, 1);
            for (int i = 0; i < inputs.Length; i++)
            {
                inputs[i] = random.Below((ulong)i, Vocabulary);
                targets[i] = random.Below((ulong)(i + inputs.Length), Vocabulary);
            }
        }

        /// <summary>Operations of a step, in billions.</summary>
        public double Gigaflops => 3e-9 * model.ForwardFlopsPerToken(shape[1]) * shape.Count;

        public Contender AsContender(string name) => new(name, Run);

        public long AllocatedPerStep()
        {
            const int Repeats = 5;
            long before = GC.GetTotalAllocatedBytes(precise: true);
            for (int i = 0; i < Repeats; i++)
            {
                Run();
            }

            return (GC.GetTotalAllocatedBytes(precise: true) - before) / Repeats;
        }

        public void Dispose()
        {
            optimizer.Dispose();
            model.Dispose();
        }

        private void Run()
        {
            using (device.BeginStep())
            {
                model.Loss(device.From<int>(inputs, shape), device.From<int>(targets, shape)).Backward();
            }

            optimizer.ClipAndStep(1e-4f, 1, 1);
            optimizer.ClearGradients();
        }
    }
}
