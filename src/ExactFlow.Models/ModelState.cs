using ExactFlow.Models.Layers;

namespace ExactFlow.Models;

/// <summary>
/// Everything a model keeps of the tokens it has read, for decoding: recurrent and convolution states, whose size does not depend on the length,
/// or key/value caches for softmax attention. Made by <see cref="LanguageModel.CreateState"/>; the caller disposes it.
/// </summary>
public sealed class ModelState : IDisposable
{
    private readonly MixerState[] layers;

    internal ModelState(MixerState[] layers, int sequences)
    {
        this.layers = layers;
        Sequences = sequences;
    }

    /// <summary>Sequences decoded together.</summary>
    public int Sequences { get; }

    /// <summary>A state per block.</summary>
    public IReadOnlyList<MixerState> Layers => layers;

    /// <summary>Bytes held now.</summary>
    public long ByteCount
    {
        get
        {
            long bytes = 0;
            foreach (MixerState layer in layers)
            {
                bytes += layer.ByteCount;
            }

            return bytes;
        }
    }

    /// <summary>Forgets all tokens.</summary>
    public void Reset()
    {
        foreach (MixerState layer in layers)
        {
            layer.Reset();
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        foreach (MixerState layer in layers)
        {
            layer.Dispose();
        }
    }
}
