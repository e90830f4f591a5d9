using ExactFlow.Tensors;

namespace ExactFlow.Models;

/// <summary>The number formats that a model can be asked to compute in, by name.</summary>
public static class ModelPrecision
{
    /// <summary>Bfloat16 on a GPU, float32 on the CPU.</summary>
    public const string Auto = "auto";

    /// <summary>Float32 everywhere.</summary>
    public const string Float32 = "float32";

    /// <summary>Activations and matrices in bfloat16, sums, vectors and states in float32; on GPUs.</summary>
    public const string BFloat16 = "bfloat16";

    /// <summary>All names.</summary>
    public static IReadOnlyList<string> Names { get; } = [Auto, Float32, BFloat16];

    /// <summary>The number format that a name stands for on a device.</summary>
    /// <exception cref="InvalidInputException">There is no such precision, or the device does not compute in it.</exception>
    public static DType On(Device device, string name) => name switch
    {
        Auto => device is CpuDevice ? DType.Float32 : DType.BFloat16,
        Float32 => DType.Float32,
        BFloat16 when device is not CpuDevice => DType.BFloat16,
        BFloat16 => throw new InvalidInputException("The CPU computes in float32, but bfloat16 was asked for: choose float32 or auto, or a GPU with --device cuda."),
        _ => throw new InvalidInputException($"There is no precision '{name}'; use one of {string.Join(", ", Names)}."),
    };
}
