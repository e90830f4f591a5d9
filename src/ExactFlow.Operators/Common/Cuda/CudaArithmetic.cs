using ExactFlow.Cuda;
using ExactFlow.Tensors;

namespace ExactFlow.Operators;

/// <summary>Small loops over whole tensors on a GPU, outside the tape.</summary>
internal static class CudaArithmetic
{
    private const string Source = "elementwise.cu";
    private static readonly KernelName AddKernel = KernelName.Of("add");

    /// <summary><c>to += from</c>; both of one shape and of float32 or bfloat16.</summary>
    public static void AddInto(CudaDevice device, Tensor to, Tensor from)
        => new CudaMap(CudaTarget.Over(to), to.Address, from.Address, to.Count).Run(device, Source, AddKernel, to.DType);

    /// <summary>Rounds float32 to bfloat16, or widens bfloat16 to float32; both tensors of one count.</summary>
    public static void Convert(CudaDevice device, Tensor to, Tensor from) => Convert(device, CudaTarget.Over(to), from.Address, to.Count, to.DType);

    /// <summary>Rounds float32 in working memory to bfloat16.</summary>
    public static void ToBFloat16(CudaDevice device, nint to, nint from, long count)
        => Convert(device, new CudaTarget(to, accumulate: false), from, count, DType.BFloat16);

    /// <summary>to (+)= from, which has the other format.</summary>
    /// <param name="device">The GPU.</param>
    /// <param name="to">Where to.</param>
    /// <param name="from">Address of the first element.</param>
    /// <param name="count">Elements.</param>
    /// <param name="type">The format of <paramref name="to"/>, float32 or bfloat16.</param>
    public static void Convert(CudaDevice device, CudaTarget to, nint from, long count, DType type)
    {
        if (count > 0)
        {
            var arguments = new CudaMap(to, from, 0, count);
            string kernel = type == DType.BFloat16 ? "convert_to_bfloat16" : "convert_to_float32";
            CudaLaunch.Run(device, Source, kernel, CudaUnits.Along(device, count, DType.BFloat16, arguments.Whole != 0), arguments);
        }
    }
}
