using ExactFlow.Tensors;
using ExactFlow.Tensors.Autograd;
using ExactFlow.Tensors.Randomness;

namespace ExactFlow.Operators.Tests;

/// <summary>A convolution cut into pieces gives, bit for bit, what it gives in one piece.</summary>
public sealed class ShortConvolutionTests
{
    private const int Batch = 3;
    private const int Time = 131;
    private const int Channels = 37;

    /// <summary>Filter widths with, for each, lengths of pieces: single tokens, primes, pieces shorter and longer than the filter, empty ones.</summary>
    public static TheoryData<int, int[]> Pieces
    {
        get
        {
            var data = new TheoryData<int, int[]>();
            foreach (int width in (int[])[1, 2, 4, 7])
            {
                data.Add(width, [.. Enumerable.Repeat(1, Time)]);
                data.Add(width, [2, 3, 5, 7, 0, 1, 1, 64, 48]);
                data.Add(width, [130, 1]);
                data.Add(width, [0, 131]);
            }

            return data;
        }
    }

    [Theory]
    [MemberData(nameof(Pieces))]
    public void PiecesWithACarriedStateEqualTheWhole(int width, int[] lengths)
    {
        Assert.Equal(Time, lengths.Sum());
        float[] x = Draw("x", Batch * Time * Channels);
        using var device = new CpuDevice(2) { PoisonFreshMemory = true };
        using Tensor state = device.Persistent([Batch, Channels, width - 1]);
        float[] whole = Apply(device, x, Time, width, state: null, offsets: null);

        int token = 0;
        foreach (int length in lengths)
        {
            float[] piece = Apply(device, Cut(x, Batch, Time, token, length), length, width, state, offsets: null);
            Assert.Equal(Bits(Cut(whole, Batch, Time, token, length)), Bits(piece));
            token += length;
        }
    }

    [Fact]
    public void PackedDocumentsEqualTheSameDocumentsAlone()
    {
        int[] offsets = [0, 1, 1, 3, 7, 70, 71, 131, 131];
        float[] x = Draw("packed", Time * Channels);
        using var device = new CpuDevice(2) { PoisonFreshMemory = true };
        float[] packed = Apply(device, x, Time, 4, state: null, new SequenceOffsets(offsets), batch: 1);

        for (int document = 0; document + 1 < offsets.Length; document++)
        {
            int length = offsets[document + 1] - offsets[document];
            float[] alone = Apply(device, Cut(x, 1, Time, offsets[document], length), length, 4, state: null, offsets: null, batch: 1);
            Assert.Equal(Bits(Cut(packed, 1, Time, offsets[document], length)), Bits(alone));
        }
    }

    [Fact]
    public void PackedDocumentsCarryAStateEach()
    {
        int[] offsets = [0, 5, 5, 6];
        float[] x = Draw("carried", 6 * Channels);
        using var device = new CpuDevice(2) { PoisonFreshMemory = true };
        using Tensor state = device.Persistent([3, Channels, 3]);
        float[] before = Draw("state", (int)state.Count);
        state.CopyFrom<float>(before);
        float[] packed = Apply(device, x, 6, 4, state, new SequenceOffsets(offsets), batch: 1);

        for (int document = 0; document < 3; document++)
        {
            int length = offsets[document + 1] - offsets[document];
            using Tensor own = device.Persistent([1, Channels, 3]);
            int size = Channels * 3;
            own.CopyFrom<float>(before.AsSpan(document * size, size));
            float[] alone = Apply(device, Cut(x, 1, 6, offsets[document], length), length, 4, own, offsets: null, batch: 1);
            Assert.Equal(Bits(Cut(packed, 1, 6, offsets[document], length)), Bits(alone));
            Assert.Equal(Bits(own.ToHost<float>()), Bits(state.ToHost<float>()[(document * size)..((document + 1) * size)]));
        }
    }

    [Fact]
    public void AStateIsRefusedWhileGradientsAreRecorded()
    {
        using var device = new CpuDevice(1);
        using Tensor state = device.Persistent([1, 2, 3]);
        using Tensor weight = device.Persistent([2, 4]).RequireGrad();
        using Step step = device.BeginStep();

        InvalidInputException error = Assert.Throws<InvalidInputException>(() => ShortConvolution.Apply(device.Zeros([1, 1, 2]), weight, state: state));

        Assert.Contains("recordGradients: false", error.Message, StringComparison.Ordinal);
    }

    private static float[] Apply(CpuDevice device, float[] x, int time, int width, Tensor? state, SequenceOffsets? offsets, int batch = Batch)
    {
        using Step step = device.BeginStep(recordGradients: false);
        Tensor weight = device.From<float>(Draw("weight", Channels * width), [Channels, width]);
        Tensor bias = device.From<float>(Draw("bias", Channels), [Channels]);
        return ShortConvolution.Apply(device.From<float>(x, [batch, time, Channels]), weight, bias, silu: true, state, offsets).ToHost<float>();
    }

    /// <summary>Tokens [first, first + length) of every batch row.</summary>
    private static float[] Cut(float[] values, int batch, int time, int first, int length)
        => [.. Enumerable.Range(0, batch).SelectMany(row => values.AsSpan(((row * time) + first) * Channels, length * Channels).ToArray())];

    private static float[] Draw(string name, int count)
    {
        var values = new float[count];
        new Philox(5, Philox.StreamOf(name)).FillNormal(values, 1);
        return values;
    }

    private static int[] Bits(float[] values) => Array.ConvertAll(values, BitConverter.SingleToInt32Bits);
}
