using ExactFlow.Models.Layers;
using ExactFlow.Operators;
using ExactFlow.Tensors;

namespace ExactFlow.Models.Mad;

/// <summary>
/// The decoder of the compression task: the encoder's last state plus the sinusoidal embedding of a position (arXiv 1706.03762, section 3.5), through norm, linear,
/// GELU, norm, linear, GELU, norm; the head, a linear map, tells the token that was there.
/// </summary>
internal sealed class MadDecoder : IDisposable
{
    private const double LongestWave = 10_000;

    private readonly int width;
    private readonly int length;
    private readonly MadNorm[] norms;
    private readonly (ModelParameter Weight, ModelParameter Bias)[] layers;
    private readonly Dictionary<(int Batch, DType Type), (Tensor Rows, Tensor Positions)> known = [];

    public MadDecoder(MadModelConfig config, ParameterLayout layout, int length)
    {
        (width, this.length) = (config.Width, length);
        norms = [.. Enumerable.Range(0, 3).Select(i => new MadNorm(layout, $"decoder.norms.{i}", width, config.NormEpsilon))];
        layers = [.. Enumerable.Range(0, 2).Select(i =>
            (layout.Add($"decoder.layers.{i}.weight", [width, width], Initializers.Normal(0.02)), layout.Add($"decoder.layers.{i}.bias", [width], Initializers.Zeros, weightDecay: false)))];
    }

    /// <summary>[batch, time, width] to what the head reads for every position of the input, [batch, time, width].</summary>
    public Tensor Forward(Device device, Tensor x)
    {
        (Tensor rows, Tensor positions) = Constants(device, x.Shape[0], x.DType);
        Tensor last = Embedding.Apply(rows, x.Reshape([checked((int)x.Shape.RowCount()), width]));
        Tensor y = Elementwise.Add(last, positions);
        for (int i = 0; i < layers.Length; i++)
        {
            y = Elementwise.Gelu(Linear.Apply(norms[i].Apply(y), layers[i].Weight.Working, layers[i].Bias.Value));
        }

        return norms[^1].Apply(y);
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        foreach ((Tensor rows, Tensor positions) in known.Values)
        {
            rows.Dispose();
            positions.Dispose();
        }
    }

    /// <summary>The row of each sequence's last state, once for every position, and the embeddings of the positions; made at a batch size's first use.</summary>
    private (Tensor Rows, Tensor Positions) Constants(Device device, int batch, DType type)
    {
        if (known.TryGetValue((batch, type), out (Tensor Rows, Tensor Positions) found))
        {
            return found;
        }

        int[] rows = new int[batch * length];
        float[] positions = new float[(long)batch * length * width];
        for (int i = 0; i < rows.Length; i++)
        {
            rows[i] = ((i / length) * length) + length - 1;
            for (int j = 0; j < width; j++)
            {
                double angle = i % length / Math.Pow(LongestWave, (j - (j % 2)) / (double)width);
                positions[((long)i * width) + j] = (float)(j % 2 == 0 ? Math.Sin(angle) : Math.Cos(angle));
            }
        }

        Tensor rowsThere = device.Persistent([batch, length], DType.Int32), positionsThere = device.Persistent([batch, length, width], type);
        rowsThere.CopyFrom<int>(rows);
        positionsThere.CopyFrom(Elementwise.Convert(device.From<float>(positions, positionsThere.Shape), type));
        known.Add((batch, type), (rowsThere, positionsThere));
        return (rowsThere, positionsThere);
    }
}
