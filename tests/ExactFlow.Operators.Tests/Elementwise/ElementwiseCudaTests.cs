using ExactFlow.Cuda;
using ExactFlow.Tensors;
using ExactFlow.Tensors.Autograd;
using ExactFlow.Testing;

namespace ExactFlow.Operators.Tests;

/// <summary>What the case tables do not show of elementwise operators on a GPU: rounding to the bit, addresses that allow no wide accesses, shared gradients.</summary>
public sealed class ElementwiseCudaTests
{
    public static TheoryData<string> Devices => new(CudaTestDevices.Names);

    [Theory]
    [MemberData(nameof(Devices))]
    public void ConvertRoundsToNearestEvenAndBack(string name)
    {
        // Ties to either side, the largest number that does not round to infinity, the smallest denormal, infinities.
        float[] values = [0, -0f, 1, 1.00390625f, 1.01171875f, -1.00390625f, 3.3895314e38f, float.MaxValue, 1e-45f, 1e-40f, float.PositiveInfinity, float.NegativeInfinity, MathF.PI];
        using CudaDevice device = CudaTestDevices.Open(name);
        using Step step = device.BeginStep(recordGradients: false);

        Tensor rounded = Elementwise.Convert(device.From<float>(values, [values.Length]), DType.BFloat16);
        Tensor widened = Elementwise.Convert(rounded, DType.Float32);

        Assert.Equal(Array.ConvertAll(values, BFloat16Bits.FromSingle), rounded.ToHost<ushort>());
        Assert.Equal(Array.ConvertAll(values, value => BitConverter.SingleToInt32Bits((float)BFloat16Bits.Round(value))), Array.ConvertAll(widened.ToHost<float>(), BitConverter.SingleToInt32Bits));
        Assert.Same(widened, Elementwise.Convert(widened, DType.Float32));
    }

    [Fact]
    public void ConvertIsRefusedOnTheCpu()
    {
        using var device = new CpuDevice(1);
        using Step step = device.BeginStep();
        InvalidInputException error = Assert.Throws<InvalidInputException>(() => Elementwise.Convert(device.Zeros([2, 3]), DType.BFloat16));
        Assert.Contains("[2, 3]", error.Message, StringComparison.Ordinal);
        Assert.Contains("BFloat16", error.Message, StringComparison.Ordinal);
    }

    [Theory]
    [MemberData(nameof(Devices))]
    public void RowsOfAnyAddressGiveTheSameBits(string name)
    {
        const int Count = 29;
        using CudaDevice device = CudaTestDevices.Open(name);
        using Step step = device.BeginStep(recordGradients: false);
        float[] values = [.. Enumerable.Range(0, 3 * Count).Select(i => (i - 40) * 0.13f)];
        Tensor rows = device.From<float>(values, [3, Count]);
        for (int row = 0; row < 3; row++)
        {
            Tensor alone = device.From<float>(values.AsSpan(row * Count, Count), [1, Count]);
            Tensor view = rows.Slice(row, 1);
            Assert.Equal(Elementwise.Silu(alone).ToHost<float>(), Elementwise.Silu(view).ToHost<float>());
            Assert.Equal(SwiGlu.Apply(alone, alone).ToHost<float>(), SwiGlu.Apply(view, alone).ToHost<float>());
            Assert.Equal(Elementwise.Convert(alone, DType.BFloat16).ToHost<ushort>(), Elementwise.Convert(view, DType.BFloat16).ToHost<ushort>());
            Assert.Equal(Split.Apply(alone, [8, 21])[1].ToHost<float>(), Split.Apply(view, [8, 21])[1].ToHost<float>());
        }
    }

    /// <summary>
    /// y = a + b, where b was made before something else was made of a: the gradient of a grows while that of b, the same memory at first, is still to be read.
    /// </summary>
    [Theory]
    [MemberData(nameof(Devices))]
    public void ASumSharesItsGradientUntilOneTermGetsMore(string name)
    {
        using CudaDevice device = CudaTestDevices.Open(name);
        using Tensor x = device.Persistent([3]).RequireGrad();
        using Tensor z = device.Persistent([3]).RequireGrad();
        using Step step = device.BeginStep();
        Tensor a = Elementwise.Scale(x, 2);
        Tensor b = Elementwise.Scale(z, 5);
        Tensor other = Elementwise.Scale(a, 7);
        Tensor sum = Elementwise.Add(a, b);
        Tensor doubled = Elementwise.Add(sum, sum);
        other.SeedGrad(device.From<float>([1, 1, 1], [3]));

        doubled.Backward(device.From<float>([1, 10, 100], [3]));

        Assert.Equal([2 * (7 + 2f), 2 * (7 + 20f), 2 * (7 + 200f)], x.Grad!.ToHost<float>());
        Assert.Equal([10f, 100f, 1000f], z.Grad!.ToHost<float>());
    }
}
