using ExactFlow.Models.Layers;
using ExactFlow.Operators;
using ExactFlow.Tensors;

namespace ExactFlow.Models.Mad;

/// <summary>
/// A model of MAD on a device: a language model that answers at every token, or, for compression, an encoder whose last state a decoder unfolds. All
/// computation happens in the device's open step. Dispose it to release the parameters.
/// </summary>
public sealed class MadModel : IDisposable
{
    private readonly MadBackbone backbone;
    private readonly MadDecoder? decoder;
    private readonly Device device;
    private readonly ModelParameter head;

    /// <summary>Builds a model with fresh weights.</summary>
    /// <param name="device">Where it lives.</param>
    /// <param name="config">Its shape.</param>
    /// <param name="seed">Seed of the initial weights: each parameter has a random stream of its own, named after it.</param>
    /// <param name="compressedLength">Tokens that the decoder tells from the last state; 0 for a language model.</param>
    /// <param name="precision">Number format of activations and of the matrices they are multiplied by, as in <see cref="LanguageModel"/>.</param>
    /// <exception cref="InvalidInputException">The configuration cannot be built.</exception>
    public MadModel(Device device, MadModelConfig config, ulong seed, int compressedLength = 0, DType precision = DType.Float32)
    {
        this.device = device ?? throw new ArgumentNullException(nameof(device));
        Config = config ?? throw new ArgumentNullException(nameof(config));
        var layout = new ParameterLayout();
        backbone = new MadBackbone(config, layout);
        decoder = compressedLength > 0 ? new MadDecoder(config, layout, compressedLength) : null;
        head = layout.Add("head.weight", [config.Vocabulary, config.Width], Initializers.Normal(0.02));
        try
        {
            layout.Draw(device, seed);
            layout.Refresh(precision);
        }
        catch
        {
            layout.Release();
            throw;
        }

        ParameterCount = layout.Count;
        Parameters = [.. layout.Parameters.Select(parameter => parameter.Parameter)];
    }

    /// <summary>Its shape.</summary>
    public MadModelConfig Config { get; }

    /// <summary>The parameters, for an optimizer.</summary>
    public IReadOnlyList<Parameter> Parameters { get; }

    /// <summary>Numbers in all parameters together.</summary>
    public long ParameterCount { get; }

    /// <summary>The mean loss over all targets that are not ignored, recorded for differentiation.</summary>
    /// <param name="ids">Int32 [batch, time].</param>
    /// <param name="targets">Int32 [batch, time].</param>
    /// <returns>A scalar of the open step, in nats.</returns>
    public Tensor Loss(Tensor ids, Tensor targets) => CrossEntropy.Apply(Answers(ids), head.Working, Flat(targets));

    /// <summary>Adds one to the count of a class for each target of it that has the largest logit; for steps that record no gradients.</summary>
    /// <param name="ids">Int32 [batch, time].</param>
    /// <param name="targets">Int32 [batch, time].</param>
    /// <param name="hits">Int32 [vocabulary].</param>
    public void CountHits(Tensor ids, Tensor targets, Tensor hits) => CrossEntropy.CountHits(Answers(ids), head.Working, Flat(targets), hits);

    /// <summary>The logits at some positions, for steps that record no gradients.</summary>
    /// <param name="ids">Int32 [batch, time].</param>
    /// <param name="positions">Int32 [count]: row x time + column of each.</param>
    /// <returns>Float32 [count, vocabulary], a tensor of the open step.</returns>
    public Tensor Logits(Tensor ids, Tensor positions) => Linear.Apply(Embedding.Apply(positions, Answers(ids)), head.Working, outputType: DType.Float32);

    /// <inheritdoc/>
    public void Dispose()
    {
        foreach (Parameter parameter in Parameters)
        {
            parameter.Dispose();
        }

        decoder?.Dispose();
    }

    private static Tensor Flat(Tensor targets)
    {
        ArgumentNullException.ThrowIfNull(targets);
        return targets.Reshape([checked((int)targets.Count)]);
    }

    /// <summary>What the head reads, [batch x time, width].</summary>
    private Tensor Answers(Tensor ids)
    {
        ArgumentNullException.ThrowIfNull(ids);
        Tensor x = backbone.Forward(ids);
        Tensor answers = decoder is null ? backbone.Finish(x) : decoder.Forward(device, x);
        return answers.Reshape([checked((int)answers.Shape.RowCount()), Config.Width]);
    }
}
