namespace ExactFlow.Models.Text.Decoders;

/// <summary>One step of decoding, on the way to the next.</summary>
/// <param name="next">Takes the results.</param>
internal abstract class DecoderStage(PieceSink next) : PieceSink
{
    /// <summary>What takes the results.</summary>
    protected PieceSink Next { get; } = next;

    /// <inheritdoc/>
    public override void Finish() => Next.Finish();
}
