using ExactFlow.Tensors;

namespace ExactFlow.Operators;

/// <summary>The linear map y = x W^T + b over the last dimension.</summary>
public static partial class Linear
{
    /// <summary>Applies the map; records gradients for <paramref name="x"/>, <paramref name="weight"/> and <paramref name="bias"/>.</summary>
    /// <param name="x">Float32 [..., in].</param>
    /// <param name="weight">Float32 [out, in].</param>
    /// <param name="bias">Float32 [out], or null for none.</param>
    /// <returns>Float32 [..., out], a tensor of the open step.</returns>
    /// <exception cref="InvalidInputException">Shapes, dtypes or devices do not fit, or the device has no form of the operator.</exception>
    public static Tensor Apply(Tensor x, Tensor weight, Tensor? bias = null)
    {
        Device device = Validate(x, weight, bias);
        Tensor y = device.Empty(x.Shape.WithLast(weight.Shape[0]));
        switch (device)
        {
            case CpuDevice cpu:
                Forward(cpu, x, weight, bias, y);
                break;
            default:
                throw Require.Implementation(nameof(Linear), device);
        }

        if (device.CurrentStep is { RecordsGradients: true } step && (x.RequiresGrad || weight.RequiresGrad || bias is { RequiresGrad: true }))
        {
            step.Tape.Record(y, () => Backward((CpuDevice)device, x, weight, bias, y.Grad!));
        }

        return y;
    }

    private static Device Validate(Tensor x, Tensor weight, Tensor? bias)
    {
        ArgumentNullException.ThrowIfNull(x);
        Device device = x.Device;
        Require.Float32(nameof(Linear), nameof(x), x);
        Require.Float32(nameof(Linear), nameof(weight), weight);
        Require.SameDevice(nameof(Linear), nameof(x), x, nameof(weight), weight);
        if (weight.Shape.Rank != 2 || x.Shape.Rank < 1 || x.Shape[^1] != weight.Shape[1])
        {
            throw new InvalidInputException($"Linear expects x [..., in] and weight [out, in] with the same `in`, but x is {x.Shape} and weight is {weight.Shape}.");
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
