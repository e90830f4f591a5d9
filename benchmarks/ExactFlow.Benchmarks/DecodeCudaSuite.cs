using ExactFlow.Cuda;
using ExactFlow.Models;
using ExactFlow.Models.Decoding;
using ExactFlow.Models.Layers;
using ExactFlow.Operators;
using ExactFlow.Tensors;
using ExactFlow.Training.Benchmarks;

namespace ExactFlow.Benchmarks;

/// <summary>Decoding on a GPU with a model of 374M parameters in bfloat16: whole tokens, and each kind of kernel by itself, over the weights of all layers in turn.</summary>
public static class DecodeCudaSuite
{
    private const int Vocabulary = 32_000;
    private const int Tokens = 20;

    /// <summary>Runs the suite, or says that there is no GPU.</summary>
    public static void Run(BenchmarkRun run)
    {
        ArgumentNullException.ThrowIfNull(run);
        if (!CudaLibrary.Driver.TryLoad(out string where))
        {
            run.Output.WriteLine($"  No NVIDIA driver library in {where}: nothing to measure.");
            return;
        }

        using var device = (CudaDevice)DeviceFactory.Parse("cuda");
        run.Output.WriteLine($"  {device.ModelName}");
        using var model = new LanguageModel(device, ModelPresets.Create("340m", MixerKind.Parse("efla"), Vocabulary), precision: DType.BFloat16);
        foreach (int batch in (int[])[1, 8, 32, 128, 256])
        {
            MeasureTokens(run, device, model, batch);
            MeasureParts(run, device, model, batch);
        }
    }

    /// <summary>Fused kernels that begin early, the same in turns, with sampling, and the ordinary operators.</summary>
    private static void MeasureTokens(BenchmarkRun run, CudaDevice device, LanguageModel model, int batch)
    {
        string name = $"{batch} sequences, {Tokens} tokens";
        if (!run.Wants(name))
        {
            return;
        }

        using ModelState state = model.CreateState(batch);
        using CudaDecoder early = Warm(SamplerOptions.Greedy, true, true), inTurn = Warm(SamplerOptions.Greedy, true, false);
        using CudaDecoder drawing = Warm(new SamplerOptions(), true, true), best = Warm(new SamplerOptions { TopK = 50 }, true, true), operators = Warm(SamplerOptions.Greedy, false, true);
        run.Compare(
            name, Tokens * batch, "tok/s",
            Advance("greedy", early), Advance("kernels in turn", inTurn), Advance("temperature 1", drawing), Advance("top-k 50", best), Advance("operators", operators));

        CudaDecoder Warm(SamplerOptions sampling, bool useFusedKernels, bool allowsEarlyBegin)
        {
            bool before = device.AllowsEarlyBegin;
            device.AllowsEarlyBegin = before && allowsEarlyBegin;
            var decoder = new CudaDecoder(model, state, sampling, useFusedKernels);
            decoder.Begin(new int[batch]);

            // The second one captures.
            decoder.Advance();
            decoder.Advance();
            device.AllowsEarlyBegin = before;
            return decoder;
        }

        Contender Advance(string contender, CudaDecoder decoder) => new(contender, () =>
        {
            for (int i = 0; i < Tokens; i++)
            {
                decoder.Advance();
            }

            device.Synchronize();
        });
    }

    /// <summary>GB/s of weights, or of states, by kind of kernel; the ratio is to the projections' rate.</summary>
    private static void MeasureParts(BenchmarkRun run, CudaDevice device, LanguageModel model, int batch)
    {
        string name = $"{batch} sequences, kernels of {model.Config.Layers} layers";
        if (!run.Wants(name))
        {
            return;
        }

        LanguageModelConfig config = model.Config;
        using ModelState state = model.CreateState(batch);
        Dictionary<string, ModelParameter> parameters = model.Layout.Parameters.ToDictionary(parameter => parameter.Name, StringComparer.Ordinal);
        FusedLayer[] layers = [.. state.Layers.Select((layer, i) => new FusedLayer(config, parameters, $"model.layers.{i}.", (RecurrentState)layer))];
        DecodeInput mixed = DecodeInput.Create(device, batch, config.Heads * config.ValueDim), activated = DecodeInput.Create(device, batch, config.InnerSize);
        using var stream = new DecodeStream(device, batch, config.HiddenSize);
        using Tensor ownedMixed = mixed.X, ownedActivated = activated.X, projected = device.Persistent([batch, layers[0].Columns]), logits = device.Persistent([batch, Vocabulary]);
        var graphs = new List<CudaGraph>();
        try
        {
            Contender[] contenders =
            [
                Part("projections", layer => layer.Projections.Sum(projection => projection.Weight.ByteCount), layer => DecodeProduct.Store(device, stream.Normalized(1e-6f), layer.Projections, projected)),
                Part("mixer", layer => 2 * layer.Mixer.Memory.ByteCount, layer => DecodeMixer.Run(device, layer.Mixer, projected, mixed.X)),
                Part("output", layer => layer.Output.ByteCount, layer => DecodeProduct.AddToStream(device, mixed, layer.Output, stream, layer.MlpNorm)),
                Part("SwiGLU", layer => layer.Gate.ByteCount + layer.Up.ByteCount, layer => DecodeProduct.SwiGlu(device, stream.Normalized(1e-6f), layer.Gate, layer.Up, activated.X)),
                Part("down", layer => layer.Down.ByteCount, layer => DecodeProduct.AddToStream(device, activated, layer.Down, stream, layer.MixerNorm)),
                Part("head, each time", _ => model.Head.ByteCount, _ => DecodeProduct.Store(device, stream.Normalized(1e-6f), [(model.Head, 0)], logits)),
            ];
            run.Compare(name, contenders[0].Work ?? 0, "GB/s", contenders);
        }
        finally
        {
            graphs.ForEach(graph => graph.Dispose());
        }

        Contender Part(string part, Func<FusedLayer, long> bytes, Action<FusedLayer> queue)
        {
            void All() => Array.ForEach(layers, layer => queue(layer));
            All();
            CudaGraph graph = device.Capture(All);
            graphs.Add(graph);
            return new Contender(part, () =>
            {
                graph.Launch();
                device.Synchronize();
            }, 1e-9 * layers.Sum(bytes));
        }
    }
}
