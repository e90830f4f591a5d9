using ExactFlow.Tensors;
using ExactFlow.Tensors.Autograd;
using ExactFlow.Tensors.Randomness;

namespace ExactFlow.Operators.Tests;

/// <summary>What the case table of SoftmaxAttention cannot say: memory, packing, decoding against the whole, wrong shapes.</summary>
public sealed class SoftmaxAttentionTests
{
    [Fact]
    public void MemoryGrowsWithTheLengthNotItsSquare()
    {
        long small = PeakOf(time: 512);
        long large = PeakOf(time: 2048);

        // Four times the length, and a quarter for the pool's size classes.
        Assert.True(large <= 5 * small, $"{small} bytes at 512 tokens, {large} at 2048");
        Assert.True(large < 2048 * 2048 * sizeof(float), $"{large} bytes at 2048 tokens");
    }

    [Fact]
    public void PackedDocumentsEqualSeparateOnesBitForBit()
    {
        int[] offsets = [0, 70, 70, 71, 200];
        using var device = new CpuDevice(2) { PoisonFreshMemory = true };
        using Tensor q = Normal(device, [1, 200, 4, 16], 1);
        using Tensor k = Normal(device, [1, 200, 2, 16], 2);
        using Tensor v = Normal(device, [1, 200, 2, 8], 3);
        using Step step = device.BeginStep(recordGradients: false);
        float[] packed = SoftmaxAttention.Apply(q, k, v, offsets: new SequenceOffsets(offsets)).ToHost<float>();

        for (int document = 0; document + 1 < offsets.Length; document++)
        {
            (int start, int end) = (offsets[document], offsets[document + 1]);
            Tensor alone = SoftmaxAttention.Apply(Part(device, q, start, end), Part(device, k, start, end), Part(device, v, start, end));
            Assert.Equal(packed.AsSpan(start * 32, (end - start) * 32).ToArray(), alone.ToHost<float>());
        }
    }

    [Fact]
    public void DecodingGivesTheLastRowOfTheWhole()
    {
        using var device = new CpuDevice(2);
        using Tensor q = Normal(device, [1, 150, 4, 16], 1);
        using Tensor k = Normal(device, [1, 150, 2, 16], 2);
        using Tensor v = Normal(device, [1, 150, 2, 8], 3);
        using Step step = device.BeginStep(recordGradients: false);
        float[] whole = SoftmaxAttention.Apply(q, k, v).ToHost<float>();

        foreach (int length in (int[])[1, 63, 128, 129, 150])
        {
            float[] last = SoftmaxAttention.Decode(Part(device, q, length - 1, length), k, v, length).ToHost<float>();
            for (int i = 0; i < 32; i++)
            {
                Assert.Equal(whole[((length - 1) * 32) + i], last[i], 2e-6f);
            }
        }
    }

    [Fact]
    public void DecodingDoesNotReadPastTheLength()
    {
        using var device = new CpuDevice(2);
        using Tensor q = Normal(device, [1, 1, 2, 8], 1);
        using Tensor k = Normal(device, [1, 9, 2, 8], 2);
        using Tensor v = Normal(device, [1, 9, 2, 8], 3);
        k.Span<float>()[(5 * 16)..].Fill(float.NaN);
        v.Span<float>()[(5 * 16)..].Fill(float.NaN);
        using Step step = device.BeginStep(recordGradients: false);

        Assert.All(SoftmaxAttention.Decode(q, k, v, 5).ToHost<float>(), value => Assert.True(float.IsFinite(value)));
    }

    [Fact]
    public void TheFutureDoesNotReachThePast()
    {
        using var device = new CpuDevice(2);
        using Tensor q = Normal(device, [1, 100, 1, 8], 1);
        using Tensor k = Normal(device, [1, 100, 1, 8], 2);
        using Tensor v = Normal(device, [1, 100, 1, 8], 3);
        using Step step = device.BeginStep(recordGradients: false);
        float[] before = SoftmaxAttention.Apply(q, k, v).ToHost<float>();
        k.Span<float>()[(66 * 8)..].Fill(1e3f);
        v.Span<float>()[(66 * 8)..].Fill(-1e3f);

        float[] after = SoftmaxAttention.Apply(q, k, v).ToHost<float>();

        Assert.Equal(before.AsSpan(0, 66 * 8).ToArray(), after.AsSpan(0, 66 * 8).ToArray());
        Assert.NotEqual(before[66 * 8], after[66 * 8]);
    }

    [Fact]
    public void ShapesThatDoNotFitAreNamed()
    {
        using var device = new CpuDevice(1);
        using Step step = device.BeginStep();
        Tensor q = device.Zeros([1, 5, 3, 8]);

        string heads = Assert.Throws<InvalidInputException>(() => SoftmaxAttention.Apply(q, device.Zeros([1, 5, 2, 8]), device.Zeros([1, 5, 2, 8]))).Message;
        string times = Assert.Throws<InvalidInputException>(() => SoftmaxAttention.Apply(q, device.Zeros([1, 6, 3, 8]), device.Zeros([1, 6, 3, 8]))).Message;
        string values = Assert.Throws<InvalidInputException>(() => SoftmaxAttention.Apply(q, device.Zeros([1, 5, 3, 8]), device.Zeros([1, 5, 1, 8]))).Message;
        string lengths = Assert.Throws<InvalidInputException>(() => SoftmaxAttention.Apply(q, q, q, offsets: new SequenceOffsets([0, 4]))).Message;
        string cache = Assert.Throws<InvalidInputException>(() => SoftmaxAttention.Decode(device.Zeros([1, 1, 3, 8]), q, q, 6)).Message;
        Assert.Contains("[1, 5, 2, 8]", heads, StringComparison.Ordinal);
        Assert.Contains("[1, 6, 3, 8]", times, StringComparison.Ordinal);
        Assert.Contains("[1, 5, 1, 8]", values, StringComparison.Ordinal);
        Assert.Contains("[1, 4, heads, dim]", lengths, StringComparison.Ordinal);
        Assert.Contains("length 6", cache, StringComparison.Ordinal);
    }

    private static long PeakOf(int time)
    {
        using var device = new CpuDevice(2) { PoisonFreshMemory = true };
        using Tensor q = Normal(device, [1, time, 2, 16], 1).RequireGrad();
        using Tensor k = Normal(device, [1, time, 2, 16], 2).RequireGrad();
        using Tensor v = Normal(device, [1, time, 2, 16], 3).RequireGrad();
        using Tensor gradient = Normal(device, [1, time, 2, 16], 4);
        using (Step step = device.BeginStep())
        {
            SoftmaxAttention.Apply(q, k, v).Backward(gradient);
        }

        return device.Pool.PeakRentedBytes;
    }

    private static Tensor Part(Device device, Tensor tensor, int start, int end)
    {
        int row = tensor.Shape[2] * tensor.Shape[3];
        return device.From<float>(tensor.Span<float>()[(start * row)..(end * row)], [1, end - start, tensor.Shape[2], tensor.Shape[3]]);
    }

    private static Tensor Normal(Device device, Shape shape, ulong stream)
    {
        Tensor tensor = device.Persistent(shape);
        new Philox(1, stream).FillNormal(tensor.Span<float>(), 1);
        return tensor;
    }
}
