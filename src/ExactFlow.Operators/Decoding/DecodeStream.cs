using ExactFlow.Cuda;
using ExactFlow.Tensors;

namespace ExactFlow.Operators;

/// <summary>The input of a <see cref="DecodeProduct"/>.</summary>
/// <param name="X">Bfloat16 <c>[batch, width or more]</c>, a multiple of 32 columns, zero beyond the width.</param>
/// <param name="Width">Inputs that count.</param>
/// <param name="Squares">Float32 <c>[batch, pieces]</c>, adding up to the squared length that an RMSNorm divides by; null for no norm.</param>
/// <param name="Epsilon">Of that norm.</param>
internal readonly record struct DecodeInput(Tensor X, int Width, Tensor? Squares = null, float Epsilon = 0)
{
    /// <summary>Columns of an input of a width: the kernels read whole pieces of 32.</summary>
    public static int Columns(int width) => (width + 31) / 32 * 32;

    /// <summary>Memory for an input without a norm.</summary>
    public static DecodeInput Create(CudaDevice device, int batch, int width) => new(device.Persistent([batch, Columns(width)], DType.BFloat16), width);
}

/// <summary>
/// The residual stream of the tokens being decoded, in float32, and beside it what the norm that reads it next needs: the stream times the norm's weight in
/// bfloat16, and its squares summed in tiles of eight. The norm then costs its product one factor per sequence.
/// </summary>
internal sealed class DecodeStream : IDisposable
{
    /// <summary>Takes the memory.</summary>
    public DecodeStream(CudaDevice device, int batch, int width)
    {
        try
        {
            Residual = device.Persistent([batch, width]);
            Scaled = device.Persistent([batch, DecodeInput.Columns(width)], DType.BFloat16);
            Squares = device.Persistent([batch, (width + 7) / 8]);
        }
        catch
        {
            Dispose();
            throw;
        }
    }

    /// <summary>Float32 <c>[batch, width]</c>.</summary>
    public Tensor Residual { get; }

    /// <summary>The stream times the next norm's weight, bfloat16 <c>[batch, columns]</c>.</summary>
    public Tensor Scaled { get; }

    /// <summary>Sums of eight squares each, float32 <c>[batch, tiles]</c>.</summary>
    public Tensor Squares { get; }

    /// <summary>The normalised stream as an input.</summary>
    public DecodeInput Normalized(float epsilon) => new(Scaled, Residual.Shape[1], Squares, epsilon);

    /// <inheritdoc/>
    public void Dispose()
    {
        Residual?.Dispose();
        Scaled?.Dispose();
        Squares?.Dispose();
    }
}
