using System.Reflection;
using System.Runtime.InteropServices;
using ExactFlow.Tensors;

namespace ExactFlow.Cuda;

/// <summary>
/// Matrix products by one simple kernel of ours: any shape, stride and transpose, sums in float32 in the order of the depth. For what a library of
/// products does not take; far from the GPU's speed. Queued on the stream of the device, the only one it has.
/// </summary>
public sealed unsafe class PlainProducts : IMatrixProducts
{
    private const int Tile = 16;
    private static readonly Assembly Sources = typeof(PlainProducts).Assembly;
    private readonly CudaDevice device;

    /// <summary>Products on a device; the kernel is compiled when first needed.</summary>
    public PlainProducts(CudaDevice device)
    {
        ArgumentNullException.ThrowIfNull(device);
        this.device = device;
    }

    /// <inheritdoc/>
    public void Multiply(in MatrixProduct product, nint stream)
    {
        if (product.Rows == 0 || product.Columns == 0 || product.Batches == 0)
        {
            return;
        }

        int across = (product.Columns + Tile - 1) / Tile, down = (product.Rows + Tile - 1) / Tile;
        var arguments = new Arguments
        {
            A = Operand.Of(product.A),
            B = Operand.Of(product.B),
            C = Operand.Of(product.C),
            Bias = product.Bias,
            Rows = product.Rows,
            Columns = product.Columns,
            Depth = product.Depth,
            Batches = product.Batches,
            Across = across,
            Alpha = product.Alpha,
            Accumulate = product.Accumulate ? 1 : 0,
            BiasIsHalf = product.BiasType == DType.BFloat16 ? 1 : 0,
        };
        CudaFunction function = device.Kernels.Function(Sources, "plain_product.cu", "plain_product");
        nint address = (nint)(&arguments);
        var geometry = new LaunchGeometry(checked(across * down), Math.Min(product.Batches, LaunchGeometry.MaxGridYZ), 1, Tile * Tile, 1, 1, 0);
        device.Launch(function, geometry, [address]);
    }

    /// <inheritdoc/>
    public void Dispose()
    {
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct Operand
    {
        public nint Address;
        public long RowStep, ColumnStep, BatchStep;
        public long IsHalf;

        public static Operand Of(in MatrixOperand operand) => new()
        {
            Address = operand.Address,
            RowStep = operand.Transposed ? 1 : operand.Stride,
            ColumnStep = operand.Transposed ? operand.Stride : 1,
            BatchStep = operand.BatchStride,
            IsHalf = operand.Type == DType.BFloat16 ? 1 : 0,
        };
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct Arguments
    {
        public Operand A, B, C;
        public nint Bias;
        public int Rows, Columns, Depth, Batches, Across;
        public float Alpha;
        public int Accumulate, BiasIsHalf;
    }
}
