using ExactFlow.Cuda;
using ExactFlow.Tensors;
using ExactFlow.Tensors.Autograd;
using ExactFlow.Tensors.Randomness;
using ExactFlow.Testing;
using ExactFlow.Testing.Emulation;

namespace ExactFlow.Operators.Tests;

/// <summary>What the case table does not show of several matrices times one input: which kernels run, results that nobody uses, bits beside products of their own.</summary>
public sealed class LinearAllTests
{
    private const int Rows = 70, Inputs = 64;

    public static TheoryData<string> Devices => new(CudaTestDevices.Names);

    [Theory]
    [InlineData(8, 72, 64)]
    [InlineData(16, 4, 1)]
    public void Narrow_bfloat16_operands_take_four_kernels_in_all_and_odd_ones_products(params int[] outputs)
    {
        var driver = new EmulatedCudaDriver();
        using CudaDevice device = CudaTestDevices.OpenEmulated(driver);
        Assert.Equal(
            ["linear_narrow_forward_64", "linear_narrow_input_gradient_64", "linear_narrow_weight_gradients_64", "linear_narrow_fold"],
            Kernels(driver, device, DType.BFloat16, Rows, Inputs, outputs));
    }

    [Theory]
    [InlineData(DType.Float32, Rows, Inputs, 16)]
    [InlineData(DType.BFloat16, 8, Inputs, 16)]
    [InlineData(DType.BFloat16, Rows, 264, 16)]
    [InlineData(DType.BFloat16, Rows, 60, 16)]
    [InlineData(DType.BFloat16, Rows, Inputs, 1024)]
    public void Everything_else_takes_the_products_of_single_matrices(DType type, int rows, int inputs, int outputs)
    {
        var driver = new EmulatedCudaDriver();
        using CudaDevice device = CudaTestDevices.OpenEmulated(driver);
        Assert.DoesNotContain(Kernels(driver, device, type, rows, inputs, [outputs, 24]), kernel => kernel.Contains("narrow", StringComparison.Ordinal));
    }

    [Theory]
    [MemberData(nameof(Devices))]
    public void Results_that_nobody_uses_have_no_part_in_gradients(string deviceName)
    {
        int[] outputs = [16, 8, 72];
        using CudaDevice device = CudaTestDevices.Open(deviceName);
        double[] x = Values("x", Rows * Inputs);
        double[][] weights = [.. outputs.Select((size, i) => Values($"w{i}", size * Inputs))];
        double[] gradient = Values("g", Rows * outputs[1]);
        Tensor[] masters = [.. outputs.Select(size => device.Persistent([size, Inputs]).RequireGrad())];
        Tensor[] copies = [.. masters.Select(master => master.WorkingCopy(DType.BFloat16))];
        for (int i = 0; i < copies.Length; i++)
        {
            Fill(copies[i], weights[i]);
        }

        using (device.BeginStep())
        {
            Tensor input = Put(device, x, [Rows, Inputs]).RequireGrad();
            Tensor[] y = Linear.ApplyAll(input, copies);
            y[1].Backward(Put(device, gradient, y[1].Shape));
            (double[] gradX, double[] gradWeight, _) = Linear.ReferenceGradient(x, weights[1], gradient, Inputs);

            // A bfloat16 result is off by its rounding, a float32 one by that of its sums.
            Assert.InRange(RelativeError.L2(Array.ConvertAll(input.Grad!.ToHost<ushort>(), BFloat16Bits.ToSingle), gradX), 0, 1.0 / 256);
            Assert.InRange(RelativeError.L2(masters[1].Grad!.ToHost<float>(), gradWeight), 0, 2e-6);
            Assert.Null(masters[0].Grad);
            Assert.Null(masters[2].Grad);
        }

        foreach (Tensor tensor in copies.Concat(masters))
        {
            tensor.Dispose();
        }

        Assert.Equal(0, device.Pool.RentedBlocks);
    }

    [Fact]
    public void On_the_cpu_the_bits_are_those_of_single_products()
    {
        using var device = new CpuDevice(2);
        (float[][] all, float[][] allGradients) = Run(Linear.ApplyAll);
        (float[][] single, float[][] singleGradients) = Run((x, weights) => [.. weights.Select(weight => Linear.Apply(x, weight))]);
        Assert.Equal(single, all);
        Assert.Equal(singleGradients, allGradients);

        (float[][] Results, float[][] Gradients) Run(Func<Tensor, IReadOnlyList<Tensor>, Tensor[]> apply)
        {
            using Step step = device.BeginStep();
            Tensor x = Put(device, Values("x", Rows * Inputs), [Rows, Inputs], DType.Float32).RequireGrad();
            Tensor[] weights = [.. new[] { 8, 8 }.Select((size, i) => Put(device, Values($"w{i}", size * Inputs), [size, Inputs], DType.Float32).RequireGrad())];
            Tensor[] y = apply(x, weights);
            Tensor sum = Elementwise.Add(y[0], y[1]);
            sum.Backward(Put(device, Values("g", Rows * 8), sum.Shape, DType.Float32));
            return ([.. y.Select(one => one.ToHost<float>())], [x.Grad!.ToHost<float>(), .. weights.Select(weight => weight.Grad!.ToHost<float>())]);
        }
    }

    [Fact]
    public void A_matrix_that_does_not_fit_is_refused_in_one_sentence()
    {
        using var device = new CpuDevice(1);
        using Step step = device.BeginStep();
        Tensor x = device.Zeros([2, 3]);
        InvalidInputException refused = Assert.Throws<InvalidInputException>(() => Linear.ApplyAll(x, [device.Zeros([4, 3]), device.Zeros([4, 5])]));
        Assert.Contains("weight is [4, 5]", refused.Message, StringComparison.Ordinal);
    }

    /// <summary>The kernels that results and gradients take.</summary>
    private static string[] Kernels(EmulatedCudaDriver driver, CudaDevice device, DType type, int rows, int inputs, int[] outputs)
    {
        Tensor[] weights = [.. outputs.Select(size => device.Persistent([size, inputs], type).RequireGrad())];
        foreach (Tensor weight in weights)
        {
            weight.Zero();
        }

        using (device.BeginStep())
        {
            Tensor x = device.Zeros([rows, inputs], type).RequireGrad(), gradient = device.Zeros([rows, outputs[0]], type);
            int before = driver.Calls.Count;
            Linear.ApplyAll(x, weights)[0].Backward(gradient);
            string[] kernels = [.. driver.Calls.Skip(before).Select(call => call.Split(' ')).Where(call => call[0] == "cuLaunchKernel").Select(call => call[1])];
            Array.ForEach(weights, weight => weight.Dispose());
            return kernels;
        }
    }

    private static double[] Values(string name, int count)
    {
        var random = new Philox(5, Philox.StreamOf(name));
        return [.. Enumerable.Range(0, count).Select(i => (double)BFloat16Bits.Round(random.Normal((ulong)i)))];
    }

    private static Tensor Put(Device device, double[] values, Shape shape, DType type = DType.BFloat16)
    {
        Tensor tensor = device.Empty(shape, type);
        Fill(tensor, values);
        return tensor;
    }

    private static void Fill(Tensor tensor, double[] values)
    {
        if (tensor.DType == DType.BFloat16)
        {
            tensor.CopyFrom<ushort>(Array.ConvertAll(values, value => BFloat16Bits.FromSingle((float)value)));
        }
        else
        {
            tensor.CopyFrom<float>(Array.ConvertAll(values, value => (float)value));
        }
    }
}
