using ExactFlow.Cuda;
using ExactFlow.Tensors;
using ExactFlow.Tensors.Autograd;
using ExactFlow.Tensors.Randomness;
using ExactFlow.Testing;

namespace ExactFlow.Operators.Tests;

/// <summary>
/// What the case table does not reach on a GPU: the kernel for few rows without gradients, results of another format than the operands, gradients of working
/// copies. Numbers are bfloat16, so that both sides compute with the same; a float32 result is then off by the rounding of its sums (2e-6), a bfloat16 one by 2^-8 at most.
/// </summary>
public sealed class LinearCudaTests
{
    private const double Single = 2e-6, Half = 1.0 / 256;

    public static TheoryData<string> Devices => new(CudaTestDevices.Names);

    [Theory]
    [MemberData(nameof(Devices))]
    public void Few_rows_without_gradients(string deviceName)
    {
        using CudaDevice device = CudaTestDevices.Open(deviceName);
        foreach (DType type in (DType[])[DType.Float32, DType.BFloat16])
        {
            foreach ((int rows, int inputs, int outputs, bool withBias) in ((int, int, int, bool)[])
                [(1, 1, 1, true), (1, 1024, 100, false), (2, 65, 33, true), (3, 256, 5, true), (4, 8, 7, false), (5, 1000, 9, true), (8, 264, 17, true), (8, 16, 16_389, true), (1, 24, 16_385, false)])
            {
                foreach (DType result in (DType[])[type, DType.Float32])
                {
                    using Step step = device.BeginStep(recordGradients: false);
                    double[] x = Values("x", rows * inputs), weight = Values("w", outputs * inputs), bias = Values("b", outputs);
                    Tensor y = Linear.Apply(Put(device, x, [rows, inputs], type), Put(device, weight, [outputs, inputs], type), withBias ? Put(device, bias, [outputs]) : null, result);
                    Assert.Equal(result, y.DType);
                    Close(Linear.Reference(x, weight, withBias ? bias : null, inputs), y, $"{rows} x {inputs} to {outputs}, {type} to {result}");
                }
            }
        }

        Assert.Equal(0, device.Pool.RentedBlocks);
    }

    [Theory]
    [MemberData(nameof(Devices))]
    public void Gradients_of_working_copies_are_float32_and_add_up(string deviceName)
    {
        const int Rows = 65, Inputs = 100, Outputs = 33;
        using CudaDevice device = CudaTestDevices.Open(deviceName);
        double[] x = Values("x", Rows * Inputs), weight = Values("w", Outputs * Inputs), bias = Values("b", Outputs), gradient = Values("g", Rows * Outputs);
        using Tensor master = device.Persistent([Outputs, Inputs]).RequireGrad(), vector = device.Persistent([Outputs]).RequireGrad();
        using Tensor copy = master.WorkingCopy(DType.BFloat16);
        Fill(copy, weight);
        Fill(vector, bias);
        (double[] gradX, double[] gradWeight, double[] gradBias) = Linear.ReferenceGradient(x, weight, gradient, Inputs);
        foreach (DType result in (DType[])[DType.BFloat16, DType.Float32])
        {
            master.ClearGrad();
            vector.ClearGrad();
            for (int application = 1; application <= 2; application++)
            {
                using Step step = device.BeginStep();
                Tensor input = Put(device, x, [Rows, Inputs], DType.BFloat16).RequireGrad();
                Tensor y = Linear.Apply(input, copy, vector, result);
                y.Backward(Put(device, gradient, y.Shape, result));
                Close(Linear.Reference(x, weight, bias, Inputs), y, $"y in {result}");
                Close(gradX, input.Grad!, $"dx from {result}");
                Assert.Equal(DType.Float32, master.Grad!.DType);
                int times = application;
                Close([.. gradWeight.Select(value => times * value)], master.Grad, $"dW from {result}, {application} times");
                Close([.. gradBias.Select(value => times * value)], vector.Grad!, $"db from {result}, {application} times");
            }
        }
    }

    [Fact]
    public void Formats_that_do_not_go_together_are_refused_in_one_sentence()
    {
        using CudaDevice device = CudaTestDevices.OpenEmulated();
        using Step step = device.BeginStep();
        Tensor x = device.Zeros([2, 3], DType.BFloat16), weight = device.Zeros([4, 3]);
        Assert.Contains("one number format", Assert.Throws<InvalidInputException>(() => Linear.Apply(x, weight)).Message, StringComparison.Ordinal);
        Assert.Contains("BFloat16 was asked", Assert.Throws<InvalidInputException>(() => Linear.Apply(weight, weight, null, DType.BFloat16)).Message, StringComparison.Ordinal);
    }

    private static double[] Values(string name, int count)
    {
        var random = new Philox(3, Philox.StreamOf(name));
        var values = new double[count];
        for (int i = 0; i < count; i++)
        {
            values[i] = BFloat16Bits.Round(random.Normal((ulong)i));
        }

        return values;
    }

    private static Tensor Put(CudaDevice device, double[] values, Shape shape, DType type = DType.Float32)
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

    private static void Close(double[] expected, Tensor actual, string what)
    {
        float[] values = actual.DType == DType.BFloat16 ? Array.ConvertAll(actual.ToHost<ushort>(), BFloat16Bits.ToSingle) : actual.ToHost<float>();
        double error = RelativeError.L2(values, expected), tolerance = actual.DType == DType.BFloat16 ? Half : Single;
        Assert.True(error <= tolerance, $"{what}: relative L2 error {error:e2} is above {tolerance:e1}.");
    }
}
