using ExactFlow.Tensors;

namespace ExactFlow.Operators;

/// <summary>The checks that every operator makes on its arguments, with their sentences.</summary>
internal static class Require
{
    /// <summary>The argument is float32 and lives on <paramref name="device"/>.</summary>
    public static void Float32(string operation, string argument, Tensor tensor, Device device) => Of(operation, argument, tensor, DType.Float32, device);

    /// <summary>The argument is int32 and lives on <paramref name="device"/>.</summary>
    public static void Int32(string operation, string argument, Tensor tensor, Device device) => Of(operation, argument, tensor, DType.Int32, device);

    /// <summary>The error for a device that has no form of the operator.</summary>
    public static InvalidInputException NoForm(string operation, Device device)
        => new($"{operation} has no form for device {device.Name}; run on the device cpu.");

    private static void Of(string operation, string argument, Tensor tensor, DType type, Device device)
    {
        ArgumentNullException.ThrowIfNull(tensor, argument);
        if (tensor.DType != type)
        {
            throw new InvalidInputException($"{operation} expects {argument} {tensor.Shape} as {type}, but it is {tensor.DType}; convert it first.");
        }

        if (tensor.Device != device)
        {
            throw new InvalidInputException($"{operation} got {argument} on {tensor.Device.Name} and its first argument on another device ({device.Name}); move both to one device.");
        }
    }
}
