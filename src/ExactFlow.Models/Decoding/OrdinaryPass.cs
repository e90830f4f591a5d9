using ExactFlow.Operators;
using ExactFlow.Tensors;
using ExactFlow.Tensors.Memory;

namespace ExactFlow.Models.Decoding;

/// <summary>The pass through the operators that reading uses too: every mixer, every precision. Its memory is set apart, so that it can be captured.</summary>
internal sealed class OrdinaryPass(LanguageModel model, ModelState state) : DecodePass
{
    private readonly PoolReservation reservation = model.Device.Pool.Reserve();

    /// <summary>Key/value caches grow, and with them the work; everything else stays the same.</summary>
    public override bool IsFixed => model.Config.Mixer.Family != MixerFamily.Softmax;

    /// <inheritdoc/>
    public override DecodeEmbedding? Embedding => null;

    /// <inheritdoc/>
    public override void Queue(Tensor ids, Tensor logits)
    {
        using PoolReservation.Opening opening = reservation.Open();
        using var step = model.Device.BeginStep(recordGradients: false);
        logits.CopyFrom(model.LastLogits(model.Forward(ids, state: state)));
    }

    /// <inheritdoc/>
    protected override void Dispose(bool disposing) => reservation.Dispose();
}
