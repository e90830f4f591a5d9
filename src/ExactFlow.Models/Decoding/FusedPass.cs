using ExactFlow.Cuda;
using ExactFlow.Models.Layers;
using ExactFlow.Operators;
using ExactFlow.Tensors;

namespace ExactFlow.Models.Decoding;

/// <summary>
/// The pass of a delta-family model in bfloat16 with five kernels a layer: projections, mixer, output projection, SwiGLU, down projection. Norms, convolutions
/// and residual sums ride along. The bytes of the weights are its floor.
/// </summary>
internal sealed class FusedPass : DecodePass
{
    /// <summary>On an H100 the ordinary operators overtake between 32 sequences (0.6 of this pass's rate) and 128 (1.07).</summary>
    private const int MostSequences = 96;

    private readonly CudaDevice device;
    private readonly float epsilon;
    private readonly DecodeStream? stream;
    private readonly Tensor? projected;
    private readonly DecodeInput mixed;
    private readonly DecodeInput activated;
    private readonly FusedLayer[] layers;
    private readonly Tensor finalNorm;
    private readonly Tensor head;

    /// <summary>Collects the weights and takes the working memory.</summary>
    public FusedPass(LanguageModel model, ModelState state)
    {
        LanguageModelConfig config = model.Config;
        device = (CudaDevice)model.Device;
        epsilon = (float)config.NormEpsilon;
        Dictionary<string, ModelParameter> parameters = model.Layout.Parameters.ToDictionary(parameter => parameter.Name, StringComparer.Ordinal);
        layers = [.. state.Layers.Select((layer, i) => new FusedLayer(config, parameters, $"model.layers.{i}.", (RecurrentState)layer))];
        finalNorm = parameters["model.norm.weight"].Value;
        head = model.Head;
        int batch = state.Sequences;
        try
        {
            stream = new DecodeStream(device, batch, config.HiddenSize);
            projected = device.Persistent([batch, layers.Max(layer => layer.Columns)]);
            mixed = DecodeInput.Create(device, batch, config.Heads * config.ValueDim);
            activated = DecodeInput.Create(device, batch, config.InnerSize);
        }
        catch
        {
            Dispose();
            throw;
        }

        Embedding = new DecodeEmbedding(parameters["model.embeddings.weight"].Working, layers[0].MixerNorm, stream);
    }

    /// <inheritdoc/>
    public override bool IsFixed => true;

    /// <inheritdoc/>
    public override DecodeEmbedding? Embedding { get; }

    /// <summary>Whether the pass of a model over some sequences can be fused, and is the faster one then: many sequences are better served by large products.</summary>
    public static bool Covers(LanguageModel model, int sequences)
    {
        LanguageModelConfig config = model.Config;
        return sequences <= MostSequences && model.Device is CudaDevice && model.Precision == DType.BFloat16 && config.Mixer.Family is MixerFamily.Delta or MixerFamily.Gated
            && (config.HiddenSize | (config.Heads * config.ValueDim) | config.InnerSize) % DecodeProduct.DepthMultiple == 0;
    }

    /// <inheritdoc/>
    public override void Queue(Tensor ids, Tensor logits)
    {
        for (int i = 0; i < layers.Length; i++)
        {
            FusedLayer layer = layers[i];
            DecodeProduct.Store(device, stream!.Normalized(epsilon), layer.Projections, projected!);
            DecodeMixer.Run(device, layer.Mixer, projected!, mixed.X);
            DecodeProduct.AddToStream(device, mixed, layer.Output, stream, layer.MlpNorm);
            DecodeProduct.SwiGlu(device, stream.Normalized(epsilon), layer.Gate, layer.Up, activated.X);
            DecodeProduct.AddToStream(device, activated, layer.Down, stream, i + 1 < layers.Length ? layers[i + 1].MixerNorm : finalNorm);
        }

        DecodeProduct.Store(device, stream!.Normalized(epsilon), [(head, 0)], logits);
    }

    /// <inheritdoc/>
    protected override void Dispose(bool disposing)
    {
        stream?.Dispose();
        projected?.Dispose();
        mixed.X?.Dispose();
        activated.X?.Dispose();
    }
}
