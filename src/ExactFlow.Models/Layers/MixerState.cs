namespace ExactFlow.Models.Layers;

/// <summary>What a mixer keeps of the tokens before: recurrent and convolution states, or a key/value cache.</summary>
public abstract class MixerState : IDisposable
{
    /// <summary>Bytes held now.</summary>
    public abstract long ByteCount { get; }

    /// <summary>Forgets all tokens.</summary>
    public abstract void Reset();

    /// <inheritdoc/>
    public void Dispose()
    {
        Dispose(true);
        GC.SuppressFinalize(this);
    }

    /// <summary>Releases the memory.</summary>
    protected abstract void Dispose(bool disposing);
}
