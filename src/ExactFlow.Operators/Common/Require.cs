using ExactFlow.Tensors;

namespace ExactFlow.Operators;

/// <summary>The checks operators make on their arguments, each with the sentence that tells the user what to change.</summary>
internal static class Require
{
    /// <summary>The tensor is there and holds float32.</summary>
    public static void Float32(string operation, string name, Tensor tensor)
    {
        ArgumentNullException.ThrowIfNull(tensor, name);
        if (tensor.DType != DType.Float32)
        {
            throw new InvalidInputException($"{operation} computes in Float32, but {name} {tensor.Shape} holds {tensor.DType}: convert it before the call.");
        }
    }

    /// <summary>The tensor is there and holds numbers that operators compute with on its device: float32, on a GPU also bfloat16.</summary>
    public static void Floating(string operation, string name, Tensor tensor)
    {
        ArgumentNullException.ThrowIfNull(tensor, name);
        if (tensor.DType != DType.Float32 && (tensor.DType != DType.BFloat16 || tensor.Device is CpuDevice))
        {
            string formats = tensor.Device is CpuDevice ? "Float32" : "Float32 or BFloat16";
            throw new InvalidInputException($"{operation} computes in {formats}, but {name} {tensor.Shape} holds {tensor.DType}: convert it before the call.");
        }
    }

    /// <summary>Two tensors hold the same kind of numbers.</summary>
    public static void SameType(string operation, string firstName, Tensor first, string secondName, Tensor second)
    {
        if (first.DType != second.DType)
        {
            throw new InvalidInputException(
                $"{operation} needs {firstName} and {secondName} in one number format, but {firstName} {first.Shape} holds {first.DType} and {secondName} {second.Shape} holds {second.DType}: convert one of them.");
        }
    }

    /// <summary>The tensor is there and holds 32-bit integers.</summary>
    public static void Int32(string operation, string name, Tensor tensor)
    {
        ArgumentNullException.ThrowIfNull(tensor, name);
        if (tensor.DType != DType.Int32)
        {
            throw new InvalidInputException($"{operation} needs {name} as Int32, but {name} {tensor.Shape} holds {tensor.DType}: convert it before the call.");
        }
    }

    /// <summary>A tensor of numbers with at least <paramref name="rank"/> dimensions whose last one is not empty.</summary>
    public static void Rows(string operation, string name, Tensor tensor, int rank = 1)
    {
        Floating(operation, name, tensor);
        if (tensor.Shape.Rank < rank || tensor.Shape[^1] == 0)
        {
            throw new InvalidInputException(
                $"{operation} works along the last dimension and needs {name} with at least {rank} {(rank == 1 ? "dimension" : "dimensions")}, the last one not empty, but it has shape {tensor.Shape}: reshape it.");
        }
    }

    /// <summary>A float32 vector with one entry per feature (last dimension) of <paramref name="input"/>, on the same device.</summary>
    public static void PerFeature(string operation, string name, Tensor vector, string inputName, Tensor input)
    {
        Float32(operation, name, vector);
        if (vector.Shape.Rank != 1 || vector.Shape[0] != input.Shape[^1])
        {
            throw new InvalidInputException(
                $"{operation} of {inputName} {input.Shape} needs {name} of shape [{input.Shape[^1]}], one entry per feature, but it has shape {vector.Shape}: make it as long as the last dimension of {inputName}.");
        }

        SameDevice(operation, inputName, input, name, vector);
    }

    /// <summary>Two tensors of equal shape and number format on the same device.</summary>
    public static void SameShape(string operation, string firstName, Tensor first, string secondName, Tensor second)
    {
        Floating(operation, firstName, first);
        Floating(operation, secondName, second);
        if (first.Shape != second.Shape)
        {
            throw new InvalidInputException(
                $"{operation} combines {firstName} and {secondName} element by element and needs equal shapes, but {firstName} is {first.Shape} and {secondName} is {second.Shape}: reshape or broadcast one of them.");
        }

        SameType(operation, firstName, first, secondName, second);
        SameDevice(operation, firstName, first, secondName, second);
    }

    /// <summary>Two tensors live on the same device.</summary>
    public static void SameDevice(string operation, string firstName, Tensor first, string secondName, Tensor second)
    {
        if (!ReferenceEquals(first.Device, second.Device))
        {
            throw new InvalidInputException(
                $"{operation} needs all its inputs on one device, but {firstName} {first.Shape} is on {first.Device.Name} and {secondName} {second.Shape} on another ({second.Device.Name}): move one of them.");
        }
    }

    /// <summary>A finite number that is not negative, such as the epsilon of a norm.</summary>
    public static void NotNegative(string operation, string name, float value)
    {
        if (!(value >= 0) || float.IsInfinity(value))
        {
            throw new InvalidInputException($"{operation} needs {name} as a finite number of at least 0, but it is {value}: a usual value is 1e-6.");
        }
    }

    /// <summary>The error for a device that an operator has no implementation for.</summary>
    public static InvalidInputException Implementation(string operation, Device device)
        => new($"{operation} has no implementation for device {device.Name}: run it on the cpu device.");
}
