using System.Reflection;
using ExactFlow.Cuda;
using ExactFlow.Tensors;

namespace ExactFlow.Operators;

/// <summary>Launches kernels of this assembly, each with one argument block passed by value.</summary>
internal static unsafe class CudaLaunch
{
    private static readonly Assembly Sources = typeof(CudaLaunch).Assembly;

    /// <summary>Launches <paramref name="kernel"/> of the embedded file <paramref name="source"/>.</summary>
    public static void Run<T>(CudaDevice device, string source, string kernel, LaunchGeometry geometry, in T arguments)
        where T : unmanaged
    {
        CudaFunction function = device.Kernels.Function(Sources, source, kernel, geometry.SharedBytes, geometry.BeginsEarly);
        fixed (T* block = &arguments)
        {
            nint address = (nint)block;
            device.Launch(function, geometry, [address]);
        }
    }

    /// <summary>Launches the instance of a kernel template for a number format: <c>name_float32</c> or <c>name_bfloat16</c>. Kernel names are literals, so nothing is allocated.</summary>
    public static void Run<T>(CudaDevice device, string source, KernelName kernel, DType type, LaunchGeometry geometry, in T arguments)
        where T : unmanaged
        => Run(device, source, type == DType.BFloat16 ? kernel.BFloat16 : kernel.Float32, geometry, arguments);

    /// <summary>A one-dimensional grid for loops with a grid stride: enough threads to fill the GPU, no more than there are elements.</summary>
    /// <param name="count">Elements, or pieces of them, each the work of a thread.</param>
    public static LaunchGeometry Grid(CudaDevice device, long count, int threads = 256)
        => new((int)Math.Clamp((count + threads - 1) / threads, 1, 16L * device.MultiprocessorCount), 1, 1, threads, 1, 1, 0);
}

/// <summary>The names of a kernel's two instances.</summary>
internal readonly record struct KernelName(string Float32, string BFloat16)
{
    /// <summary>The instances of a kernel template; keep the result in a static field.</summary>
    public static KernelName Of(string name) => new($"{name}_float32", $"{name}_bfloat16");
}
