using System.Reflection;
using System.Runtime.InteropServices;
using ExactFlow.Cuda;
using ExactFlow.Tensors;

namespace ExactFlow.Operators;

/// <summary>Small loops over whole tensors on a GPU.</summary>
internal static unsafe class CudaArithmetic
{
    private const int Threads = 256;
    private static readonly Assembly Sources = typeof(CudaArithmetic).Assembly;

    /// <summary><c>to += from</c>; both of one shape and of float32 or bfloat16.</summary>
    public static void AddInto(CudaDevice device, Tensor to, Tensor from)
        => Run(device, to.DType == DType.BFloat16 ? "add_into_bfloat16" : "add_into_float32", to, from);

    /// <summary>Rounds float32 to bfloat16, or widens bfloat16 to float32; both tensors of one count.</summary>
    public static void Convert(CudaDevice device, Tensor to, Tensor from)
        => Run(device, to.DType == DType.BFloat16 ? "float32_to_bfloat16" : "bfloat16_to_float32", to, from);

    /// <summary>Rounds float32 in working memory to bfloat16.</summary>
    public static void ToBFloat16(CudaDevice device, nint to, nint from, long count) => Run(device, "float32_to_bfloat16", to, from, count);

    private static void Run(CudaDevice device, string kernel, Tensor to, Tensor from) => Run(device, kernel, to.Address, from.Address, to.Count);

    private static void Run(CudaDevice device, string kernel, nint to, nint from, long count)
    {
        var arguments = new Pair { To = to, From = from, Count = count };
        if (arguments.Count == 0)
        {
            return;
        }

        int blocks = (int)Math.Min((arguments.Count + Threads - 1) / Threads, 16L * device.MultiprocessorCount);
        nint address = (nint)(&arguments);
        device.Launch(device.Kernels.Function(Sources, "arithmetic.cu", kernel), new LaunchGeometry(blocks, 1, 1, Threads, 1, 1, 0), [address]);
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct Pair
    {
        public nint To, From;
        public long Count;
    }
}
