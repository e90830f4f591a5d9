using ExactFlow.Cuda;
using ExactFlow.Tensors;
using ExactFlow.Tensors.Autograd;
using ExactFlow.Tensors.Randomness;
using ExactFlow.Testing;

namespace ExactFlow.Operators.Tests;

/// <summary>RmsNorm after a sum inside a graph, where its terms share one gradient in memory and others add to one of them; and rows too long for a GPU.</summary>
public sealed class RmsNormAfterAddTests
{
    private const int Rows = 5;
    private const int Dimension = 24;

    public static TheoryData<string> Devices => [.. CudaTestDevices.Names];

    [Theory]
    [MemberData(nameof(Devices))]
    public void SharedGradientsStayApart(string name)
    {
        using var cpu = new CpuDevice(1) { PoisonFreshMemory = true };
        using CudaDevice gpu = CudaTestDevices.Open(name);
        foreach (bool isReadAfter in new[] { false, true })
        {
            float[][] expected = Gradients(cpu, isReadAfter);
            float[][] actual = Gradients(gpu, isReadAfter);
            for (int i = 0; i < expected.Length; i++)
            {
                Assert.True(RelativeError.L2(actual[i], Array.ConvertAll(expected[i], g => (double)g)) < 1e-5, $"Gradient {i} differs from the CPU's.");
            }
        }

        Assert.Equal(0, gpu.Pool.RentedBlocks);
    }

    [Theory]
    [MemberData(nameof(Devices))]
    public void AnUnusedNormPassesTheSumsGradientOn(string name)
    {
        using CudaDevice gpu = CudaTestDevices.Open(name);
        using Tensor x = Normal(gpu, 1, [Rows, Dimension]).RequireGrad();
        using Tensor residual = Normal(gpu, 2, [Rows, Dimension]).RequireGrad();
        using Tensor weight = Normal(gpu, 3, [Dimension]).RequireGrad();
        using Tensor gradient = Normal(gpu, 4, [Rows, Dimension]);
        using (gpu.BeginStep())
        {
            RmsNorm.ApplyAfterAdd(x, residual, weight).Sum.Backward(gradient);
        }

        Assert.Equal(gradient.ToHost<float>(), x.Grad!.ToHost<float>());
        Assert.Equal(gradient.ToHost<float>(), residual.Grad!.ToHost<float>());
        Assert.Null(weight.Grad);
    }

    [Theory]
    [MemberData(nameof(Devices))]
    public void ATensorAddedToItselfGetsTheGradientTwice(string name)
    {
        using CudaDevice gpu = CudaTestDevices.Open(name);
        using Tensor leaf = Normal(gpu, 1, [Rows, Dimension]).RequireGrad();
        using Tensor weight = Normal(gpu, 3, [Dimension]);
        using Tensor gradient = Normal(gpu, 4, [Rows, Dimension]);
        using Step step = gpu.BeginStep();
        Tensor x = L2Norm.Apply(leaf);
        RmsNorm.ApplyAfterAdd(x, x, weight).Sum.Backward(gradient);

        // The sum is 2 x, so the leaf's gradient is twice that of x alone.
        double[] once = L2Norm.ReferenceGradient(Doubles(leaf), Dimension, 1e-6, Doubles(gradient));
        Assert.True(RelativeError.L2(leaf.Grad!.ToHost<float>(), Array.ConvertAll(once, g => 2 * g)) < 1e-6);
    }

    [Theory]
    [MemberData(nameof(Devices))]
    public void RowsTooLongAreNamed(string name)
    {
        using CudaDevice gpu = CudaTestDevices.Open(name);
        using Tensor x = gpu.Persistent([2, 8193]);
        using Tensor weight = gpu.Persistent([8193]);
        using Step step = gpu.BeginStep();

        string message = Assert.Throws<InvalidInputException>(() => RmsNorm.Apply(x, weight)).Message;

        Assert.Contains("8193", message, StringComparison.Ordinal);
        Assert.Contains("8192", message, StringComparison.Ordinal);
    }

    /// <summary>
    /// The gradients of a small graph in which the terms of the second sum get one gradient, and a reader of one of them adds to it before the other's is read.
    /// </summary>
    /// <param name="device">Where.</param>
    /// <param name="isReadAfter">Whether the sum has a gradient already when the two terms are to share one.</param>
    private static float[][] Gradients(Device device, bool isReadAfter)
    {
        using Tensor x = Normal(device, 1, [Rows, Dimension]).RequireGrad();
        using Tensor y = Normal(device, 2, [Rows, Dimension]).RequireGrad();
        using Tensor weight = Normal(device, 3, [Dimension]).RequireGrad();
        using Step step = device.BeginStep();
        (Tensor sum, Tensor normalized) = RmsNorm.ApplyAfterAdd(L2Norm.Apply(x), L2Norm.Apply(y), weight);
        Tensor branch = L2Norm.Apply(normalized);
        Tensor before = L2Norm.Apply(sum);
        (Tensor secondSum, Tensor secondNormalized) = RmsNorm.ApplyAfterAdd(branch, sum, weight);
        Tensor[] outputs = isReadAfter ? [before, secondSum, secondNormalized, L2Norm.Apply(sum)] : [before, secondSum, secondNormalized];
        Tensor[] seeds = [.. outputs.Select((output, i) => Normal(device, 10 + (ulong)i, output.Shape))];
        CaseRun.Backward(outputs, seeds);
        Array.ForEach(seeds, seed => seed.Dispose());
        return [x.Grad!.ToHost<float>(), y.Grad!.ToHost<float>(), weight.Grad!.ToHost<float>()];
    }

    private static double[] Doubles(Tensor tensor) => Array.ConvertAll(tensor.ToHost<float>(), value => (double)value);

    private static Tensor Normal(Device device, ulong stream, Shape shape)
    {
        var values = new float[shape.Count];
        new Philox(7, stream).FillNormal(values, 1);
        Tensor tensor = device.Persistent(shape);
        tensor.CopyFrom<float>(values);
        return tensor;
    }
}
