using ExactFlow.Tensors;

namespace ExactFlow.Models.Decoding;

/// <summary>A model's pass over one token of every sequence on a GPU, from the drawn tokens to the next logits, states updated in place.</summary>
internal abstract class DecodePass : IDisposable
{
    /// <summary>Whether it queues the same work at the same addresses every time, so that it can be captured.</summary>
    public abstract bool IsFixed { get; }

    /// <summary>Where drawn tokens are looked up, if that is done ahead of the pass; null when the pass does it.</summary>
    public abstract Operators.DecodeEmbedding? Embedding { get; }

    /// <summary>Queues the pass.</summary>
    /// <param name="ids">Int32 [sequences, 1].</param>
    /// <param name="logits">Receives float32 [sequences, vocabulary].</param>
    public abstract void Queue(Tensor ids, Tensor logits);

    /// <inheritdoc/>
    public void Dispose()
    {
        Dispose(true);
        GC.SuppressFinalize(this);
    }

    /// <summary>Releases working memory.</summary>
    protected virtual void Dispose(bool disposing)
    {
    }
}
