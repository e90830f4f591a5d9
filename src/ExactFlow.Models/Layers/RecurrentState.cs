using ExactFlow.Tensors;

namespace ExactFlow.Models.Layers;

/// <summary>The state of a recurrent mixer: S and the last inputs of its short convolutions. Its size does not depend on the length.</summary>
public sealed class RecurrentState : MixerState
{
    private readonly Tensor[] convolutions;

    internal RecurrentState(Device device, int sequences, int heads, int keyDim, int valueDim, int convolutionWidth, params ReadOnlySpan<int> channels)
    {
        Memory = device.Persistent([sequences, heads, keyDim, valueDim]);
        convolutions = new Tensor[channels.Length];
        for (int i = 0; i < channels.Length; i++)
        {
            convolutions[i] = device.Persistent([sequences, channels[i], convolutionWidth - 1]);
        }
    }

    /// <summary>S: float32 [sequences, heads, K, V].</summary>
    public Tensor Memory { get; }

    /// <summary>The convolutions' states: float32 [sequences, channels, width - 1], in the order of the mixer's convolutions.</summary>
    public IReadOnlyList<Tensor> Convolutions => convolutions;

    /// <inheritdoc/>
    public override long ByteCount
    {
        get
        {
            long bytes = Memory.ByteCount;
            foreach (Tensor convolution in convolutions)
            {
                bytes += convolution.ByteCount;
            }

            return bytes;
        }
    }

    /// <inheritdoc/>
    public override void Reset()
    {
        Memory.Zero();
        foreach (Tensor convolution in convolutions)
        {
            convolution.Zero();
        }
    }

    /// <inheritdoc/>
    protected override void Dispose(bool disposing)
    {
        Memory.Dispose();
        foreach (Tensor convolution in convolutions)
        {
            convolution.Dispose();
        }
    }
}
