using ExactFlow.Models;
using ExactFlow.Tensors;
using ExactFlow.Tensors.MatrixProduct;
using ExactFlow.Training.Benchmarks;

namespace ExactFlow.Benchmarks;

/// <summary>
/// Decoding one token at a time at batch 1. Its floor is reading every weight once, so the rate is bytes of weights per second, as a share of the rate at which
/// the machine reads memory; and its time and memory must not depend on how much was read before.
/// </summary>
public static unsafe class DecodeSuite
{
    private const int Vocabulary = 32_000;
    private static readonly int[] Lengths = [1, 1_000, 10_000, 100_000];

    /// <summary>Runs the suite.</summary>
    public static void Run(BenchmarkRun run)
    {
        foreach (int threads in run.ThreadCounts)
        {
            using var device = new CpuDevice(threads);
            foreach (string mixer in (string[])["efla", "gated_efla", "deltanet", "mamba2", "softmax_attention"])
            {
                ShareOfBandwidth(run, device, $"{threads}t {mixer} 60m", MixerKind.Parse(mixer));
            }

            foreach (string mixer in (string[])["efla", "mamba2"])
            {
                OverLength(run, device, $"{threads}t {mixer} after", MixerKind.Parse(mixer));
            }
        }
    }

    /// <summary>A model whose weights no cache holds, against reading as many bytes.</summary>
    private static void ShareOfBandwidth(BenchmarkRun run, CpuDevice device, string name, MixerKind mixer)
    {
        if (!run.Wants(name))
        {
            return;
        }

        using var model = new LanguageModel(device, ModelPresets.Create("60m", mixer, Vocabulary) with { TieEmbeddings = true });
        using var decoder = new Decoder(model, 16);
        using Tensor memory = device.Persistent([checked((int)model.ParameterCount)]);
        IReadOnlyList<Measurement> results = run.Compare(
            name,
            4e-9 * model.ParameterCount,
            "GB/s",
            new Contender("read", () => MachineCeilings.Read(device.Workers, memory.Floats, memory.Count)),
            new Contender("ExactFlow", decoder.Next));
        run.Report(name, "tokens", 1 / results[1].Seconds, "tok/s", results[1].Ratio);
    }

    /// <summary>A small model after texts of growing length: time per token against that after one token, and memory.</summary>
    private static void OverLength(BenchmarkRun run, CpuDevice device, string name, MixerKind mixer)
    {
        if (!run.Wants(name))
        {
            return;
        }

        using var model = new LanguageModel(device, ModelPresets.Create("compare", mixer, 4096));
        Decoder[] decoders = [.. Lengths.Select(length => new Decoder(model, length))];
        run.Compare(name, 4e-9 * model.ParameterCount, "GB/s", [.. decoders.Select((decoder, i) => new Contender($"{Lengths[i]:N0} tokens", decoder.Next))]);
        for (int i = 0; i < decoders.Length; i++)
        {
            run.Report($"{name}, state", $"{Lengths[i]:N0} tokens", 1e-6 * decoders[i].StateBytes, "MB", (double)decoders[0].StateBytes / decoders[i].StateBytes);
            decoders[i].Dispose();
        }
    }

    /// <summary>A text that was read and is now continued greedily.</summary>
    private sealed class Decoder : IDisposable
    {
        private const int Piece = 1024;
        private readonly LanguageModel model;
        private readonly ModelState state;
        private readonly Sampler sampler = new(SamplerOptions.Greedy);
        private int token = 1;

        public Decoder(LanguageModel model, int length)
        {
            this.model = model;
            state = model.CreateState();
            var ids = new int[Piece];
            for (int start = 0; start < length; start += Piece)
            {
                int count = Math.Min(Piece, length - start);
                for (int i = 0; i < count; i++)
                {
                    ids[i] = (int)((start + i) * 2654435761L % model.Config.VocabularySize);
                }

                using var step = model.Device.BeginStep(recordGradients: false);
                model.Forward(model.Device.From<int>(ids.AsSpan(0, count), [1, count]), state: state);
            }
        }

        public long StateBytes => state.ByteCount;

        public void Next()
        {
            using var step = model.Device.BeginStep(recordGradients: false);
            Tensor logits = model.LastLogits(model.Forward(model.Device.From<int>([token], [1, 1]), state: state));
            token = sampler.Next(logits.Span<float>());
        }

        public void Dispose() => state.Dispose();
    }
}
