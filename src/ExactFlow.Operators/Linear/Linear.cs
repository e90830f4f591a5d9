using ExactFlow.Cuda;
using ExactFlow.Tensors;
using ExactFlow.Tensors.Autograd;

namespace ExactFlow.Operators;

/// <summary>The linear map y = x W^T + b over the last dimension.</summary>
public static partial class Linear
{
    /// <summary>Applies the map; records gradients for <paramref name="x"/>, <paramref name="weight"/> and <paramref name="bias"/>.</summary>
    /// <param name="x">Float32 [..., in]; on a GPU also bfloat16.</param>
    /// <param name="weight">[out, in], in the format of <paramref name="x"/>. Its gradient has the format that the weight asks for: float32 for a working copy in bfloat16.</param>
    /// <param name="bias">Float32 [out], or null for none.</param>
    /// <param name="outputType">Float32 to keep the sums of bfloat16 operands unrounded, as for logits; null for the format of <paramref name="x"/>.</param>
    /// <returns>[..., out], a tensor of the open step.</returns>
    /// <exception cref="InvalidInputException">Shapes, dtypes or devices do not fit, or the device has no form of the operator.</exception>
    public static Tensor Apply(Tensor x, Tensor weight, Tensor? bias = null, DType? outputType = null)
    {
        Tape? tape = Recording.TapeFor(x, weight, bias);
        Tensor y = Compute(x, weight, bias, outputType, isRecorded: tape is not null);
        tape?.Record(y, () => Backward(x, weight, bias, y.Grad!));
        return y;
    }

    /// <summary>The result without a record of it, for operators that differentiate it themselves.</summary>
    internal static Tensor Compute(Tensor x, Tensor weight, Tensor? bias, DType? outputType, bool isRecorded)
    {
        Device device = Validate(x, weight, bias, outputType);
        Tensor y = device.Empty(x.Shape.WithLast(weight.Shape[0]), outputType ?? x.DType);
        switch (device)
        {
            case CpuDevice cpu:
                Forward(cpu, x, weight, bias, y);
                break;
            case CudaDevice gpu:
                Forward(gpu, x, weight, bias, y, isRecorded);
                break;
            default:
                throw Require.Implementation(nameof(Linear), device);
        }

        return y;
    }

    /// <summary>target (+)= dy W: what the gradient of the result, in the format of the operands, is for the input.</summary>
    internal static void InputGradient(Tensor outputGradient, Tensor weight, Tensor target, bool accumulate)
    {
        int rows = checked((int)outputGradient.Shape.RowCount());
        if (outputGradient.Device is CudaDevice gpu)
        {
            InputGradient(gpu, outputGradient.Address, weight, rows, target, accumulate);
        }
        else
        {
            InputGradient((CpuDevice)outputGradient.Device, outputGradient, weight, rows, target, accumulate);
        }
    }

    /// <summary>dW (+)= dy^T x, where the weight wants a gradient.</summary>
    internal static void WeightGradient(Tensor outputGradient, Tensor x, Tensor weight)
    {
        int rows = checked((int)x.Shape.RowCount());
        if (x.Device is CudaDevice gpu)
        {
            WeightGradient(gpu, outputGradient.Address, x, weight, rows);
        }
        else
        {
            WeightGradient((CpuDevice)x.Device, outputGradient, x, weight, rows);
        }
    }

    private static void Backward(Tensor x, Tensor weight, Tensor? bias, Tensor outputGradient)
    {
        if (x.Device is CudaDevice gpu)
        {
            Backward(gpu, x, weight, bias, outputGradient);
        }
        else
        {
            Backward((CpuDevice)x.Device, x, weight, bias, outputGradient);
        }
    }

    private static Device Validate(Tensor x, Tensor weight, Tensor? bias, DType? outputType)
    {
        ArgumentNullException.ThrowIfNull(x);
        Device device = x.Device;
        Require.Floating(nameof(Linear), nameof(x), x);
        Require.Floating(nameof(Linear), nameof(weight), weight);
        Require.SameType(nameof(Linear), nameof(x), x, nameof(weight), weight);
        Require.SameDevice(nameof(Linear), nameof(x), x, nameof(weight), weight);
        if (weight.Shape.Rank != 2 || x.Shape.Rank < 1 || x.Shape[^1] != weight.Shape[1])
        {
            throw new InvalidInputException($"Linear expects x [..., in] and weight [out, in] with the same `in`, but x is {x.Shape} and weight is {weight.Shape}.");
        }

        if (outputType is { } type && type != DType.Float32 && type != x.DType)
        {
            throw new InvalidInputException($"Linear gives its result in Float32 or in the format of x, but {type} was asked of x {x.Shape} in {x.DType}: ask for one of the two.");
        }

        if (bias is not null)
        {
            Require.Float32(nameof(Linear), nameof(bias), bias);
            Require.SameDevice(nameof(Linear), nameof(x), x, nameof(bias), bias);
            if (bias.Shape.Rank != 1 || bias.Shape[0] != weight.Shape[0])
            {
                throw new InvalidInputException($"Linear expects bias [out] to match weight [out, in], but bias is {bias.Shape} and weight is {weight.Shape}.");
            }
        }

        return device;
    }
}
