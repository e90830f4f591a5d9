using ExactFlow.Tensors;
using ExactFlow.Tensors.Autograd;
using ExactFlow.Tensors.Randomness;
using ExactFlow.Testing;

namespace ExactFlow.Operators.Tests;

/// <summary>A convolution cut into pieces gives, bit for bit, what it gives in one piece: on the CPU and on GPUs, in every number format.</summary>
public sealed class ShortConvolutionTests
{
    private const int Batch = 3;
    private const int Time = 131;

    public static TheoryData<string, DType> Devices
    {
        get
        {
            var data = new TheoryData<string, DType> { { "cpu", DType.Float32 } };
            foreach (string name in CudaTestDevices.Names)
            {
                data.Add(name, DType.Float32);
                data.Add(name, DType.BFloat16);
            }

            return data;
        }
    }

    /// <summary>Filter widths with, for each, lengths of pieces: single tokens, primes, pieces shorter and longer than the filter, empty ones.</summary>
    public static TheoryData<string, DType, int, int, int, int[]> Pieces
    {
        get
        {
            var data = new TheoryData<string, DType, int, int, int, int[]>();
            foreach ((string device, DType type) in Devices.Select(row => row.Data))
            {
                // 37 channels go one by one; on a GPU 36 go four at a time, and heads of 64 are scaled to unit length in the same pass.
                foreach ((int width, int channels, int headDim) in ((int, int, int)[])[(1, 37, 0), (2, 37, 0), (4, 37, 0), (4, 36, 0), (7, 37, 0), (4, 128, 64)])
                {
                    data.Add(device, type, width, channels, headDim, [.. Enumerable.Repeat(1, Time)]);
                    data.Add(device, type, width, channels, headDim, [2, 3, 5, 7, 0, 1, 1, 64, 48]);
                    data.Add(device, type, width, channels, headDim, [130, 1]);
                    data.Add(device, type, width, channels, headDim, [0, 131]);
                }
            }

            return data;
        }
    }

    [Theory]
    [MemberData(nameof(Pieces))]
    public void PiecesWithACarriedStateEqualTheWhole(string name, DType type, int width, int channels, int headDim, int[] lengths)
    {
        Assert.Equal(Time, lengths.Sum());
        float[] x = Draw("x", Batch * Time * channels);
        using Device device = Open(name);
        using Tensor state = device.Persistent([Batch, channels, width - 1]);
        float[] whole = Apply(device, type, x, [Batch, Time, channels], width, headDim: headDim);

        int token = 0;
        foreach (int length in lengths)
        {
            float[] piece = Apply(device, type, Cut(x, Batch, channels, token, length), [Batch, length, channels], width, state, headDim: headDim);
            Assert.Equal(Bits(Cut(whole, Batch, channels, token, length)), Bits(piece));
            token += length;
        }
    }

    [Theory]
    [MemberData(nameof(Devices))]
    public void PackedDocumentsEqualTheSameDocumentsAlone(string name, DType type)
    {
        int[] offsets = [0, 1, 1, 3, 7, 70, 71, 131, 131];
        using Device device = Open(name);
        foreach (int channels in (int[])[36, 37])
        {
            float[] x = Draw("packed", Time * channels);
            float[] packed = Apply(device, type, x, [1, Time, channels], 4, state: null, new SequenceOffsets(offsets));

            for (int document = 0; document + 1 < offsets.Length; document++)
            {
                int length = offsets[document + 1] - offsets[document];
                float[] alone = Apply(device, type, Cut(x, 1, channels, offsets[document], length), [1, length, channels], 4);
                Assert.Equal(Bits(Cut(packed, 1, channels, offsets[document], length)), Bits(alone));
            }
        }
    }

    [Theory]
    [MemberData(nameof(Devices))]
    public void PackedDocumentsCarryAStateEach(string name, DType type)
    {
        int[] offsets = [0, 5, 5, 6, 40];
        const int Channels = 37;
        float[] x = Draw("carried", 40 * Channels);
        using Device device = Open(name);
        using Tensor state = device.Persistent([4, Channels, 3]);
        float[] before = Draw("state", (int)state.Count);
        state.CopyFrom<float>(before);
        float[] packed = Apply(device, type, x, [1, 40, Channels], 4, state, new SequenceOffsets(offsets));

        for (int document = 0; document < 4; document++)
        {
            int length = offsets[document + 1] - offsets[document];
            using Tensor own = device.Persistent([1, Channels, 3]);
            int size = Channels * 3;
            own.CopyFrom<float>(before.AsSpan(document * size, size));
            float[] alone = Apply(device, type, Cut(x, 1, Channels, offsets[document], length), [1, length, Channels], 4, own);
            Assert.Equal(Bits(Cut(packed, 1, Channels, offsets[document], length)), Bits(alone));
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

    private static Device Open(string name) => name == "cpu" ? new CpuDevice(2) { PoisonFreshMemory = true } : CudaTestDevices.Open(name);

    private static float[] Apply(Device device, DType type, float[] x, Shape shape, int width, Tensor? state = null, SequenceOffsets? offsets = null, int headDim = 0)
    {
        using Step step = device.BeginStep(recordGradients: false);
        Tensor weight = device.From<float>(Draw("weight", shape[2] * width), [shape[2], width]);
        Tensor bias = device.From<float>(Draw("bias", shape[2]), [shape[2]]);
        Tensor input = Elementwise.Convert(device.From<float>(x, shape), type);
        Tensor y = headDim == 0
            ? ShortConvolution.Apply(input, weight, bias, silu: true, state, offsets)
            : ShortConvolution.ApplyNormalized(input, weight, headDim, bias, silu: true, state: state, offsets: offsets);
        return Elementwise.Convert(y, DType.Float32).ToHost<float>();
    }

    /// <summary>Tokens [first, first + length) of every batch row.</summary>
    private static float[] Cut(float[] values, int batch, int channels, int first, int length)
        => [.. Enumerable.Range(0, batch).SelectMany(row => values.AsSpan(((row * Time) + first) * channels, length * channels).ToArray())];

    private static float[] Draw(string name, int count)
    {
        var values = new float[count];
        new Philox(5, Philox.StreamOf(name)).FillNormal(values, 1);
        return values;
    }

    private static int[] Bits(float[] values) => Array.ConvertAll(values, BitConverter.SingleToInt32Bits);
}
