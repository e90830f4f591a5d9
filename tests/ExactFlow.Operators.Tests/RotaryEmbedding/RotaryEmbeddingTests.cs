using ExactFlow.Tensors;
using ExactFlow.Tensors.Autograd;
using ExactFlow.Tensors.Randomness;

namespace ExactFlow.Operators.Tests;

/// <summary>Properties of RotaryEmbedding: it keeps lengths, scores depend on distances only, and decoding continues a prefill.</summary>
public sealed class RotaryEmbeddingTests
{
    [Fact]
    public void ScoresDependOnDistancesOnly()
    {
        using var device = new CpuDevice(2);
        using Step step = device.BeginStep(recordGradients: false);
        Tensor q = Normal(device, [1, 1, 1, 64], 1);
        Tensor k = Normal(device, [1, 1, 1, 64], 2);

        double near = Dot(RotaryEmbedding.Apply(q, 17), RotaryEmbedding.Apply(k, 5));
        double far = Dot(RotaryEmbedding.Apply(q, 1_000_012), RotaryEmbedding.Apply(k, 1_000_000));

        Assert.Equal(near, far, 1e-5);
        Assert.Equal(Dot(q, q), Dot(RotaryEmbedding.Apply(q, 123), RotaryEmbedding.Apply(q, 123)), 1e-4);
    }

    [Fact]
    public void OneTokenAtATimeContinuesAPrefill()
    {
        using var device = new CpuDevice(2);
        using Step step = device.BeginStep(recordGradients: false);
        Tensor x = Normal(device, [1, 70, 2, 16], 1);
        float[] whole = RotaryEmbedding.Apply(x).ToHost<float>();

        foreach (int position in (int[])[0, 1, 63, 64, 69])
        {
            Tensor token = device.From<float>(x.Span<float>().Slice(position * 32, 32), [1, 1, 2, 16]);
            float[] turned = RotaryEmbedding.Apply(token, position).ToHost<float>();
            for (int i = 0; i < 32; i++)
            {
                Assert.Equal(whole[(position * 32) + i], turned[i], 1e-6f);
            }
        }
    }

    [Fact]
    public void WrongArgumentsAreNamed()
    {
        using var device = new CpuDevice(1);
        using Step step = device.BeginStep();
        Tensor x = device.Zeros([2, 3, 1, 4]);

        Assert.Contains("[2, 3, 1, 5]", Assert.Throws<InvalidInputException>(() => RotaryEmbedding.Apply(device.Zeros([2, 3, 1, 5]))).Message, StringComparison.Ordinal);
        Assert.Contains("position", Assert.Throws<InvalidInputException>(() => RotaryEmbedding.Apply(x, -1)).Message, StringComparison.Ordinal);
        Assert.Contains("theta", Assert.Throws<InvalidInputException>(() => RotaryEmbedding.Apply(x, theta: 0)).Message, StringComparison.Ordinal);
        Assert.Contains("[1, 3, heads, dim]", Assert.Throws<InvalidInputException>(() => RotaryEmbedding.Apply(x, offsets: new SequenceOffsets([0, 3]))).Message, StringComparison.Ordinal);
    }

    private static double Dot(Tensor left, Tensor right)
    {
        double sum = 0;
        for (int i = 0; i < left.Count; i++)
        {
            sum += (double)left.Span<float>()[i] * right.Span<float>()[i];
        }

        return sum;
    }

    private static Tensor Normal(Device device, Shape shape, ulong stream)
    {
        Tensor tensor = device.Empty(shape);
        new Philox(1, stream).FillNormal(tensor.Span<float>(), 1);
        return tensor;
    }
}
