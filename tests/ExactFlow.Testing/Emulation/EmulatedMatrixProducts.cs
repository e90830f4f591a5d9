using System.Numerics;
using ExactFlow.Cuda;
using ExactFlow.Tensors;

namespace ExactFlow.Testing.Emulation;

/// <summary>Matrix products of the emulated GPU: plain loops over host memory, queued on the driver's stream (and so recorded by a capture) like kernels.</summary>
public sealed unsafe class EmulatedMatrixProducts : IMatrixProducts
{
    private const string Call = "cublasLtMatmul";
    private readonly EmulatedCudaDriver driver;

    /// <summary>Multiplies in the memory of a driver.</summary>
    public EmulatedMatrixProducts(EmulatedCudaDriver driver) => this.driver = driver;

    /// <summary>Products so far, captured ones once.</summary>
    public int Products { get; private set; }

    /// <inheritdoc/>
    public void Multiply(in MatrixProduct product, nint stream)
    {
        MatrixProduct queued = product;
        string shape = $"[{product.Rows}, {product.Depth}] times [{product.Depth}, {product.Columns}], {product.Batches} batches";
        CudaResult result = driver.Queue($"{Call} {shape}", stream, () => Problem(queued) is { } problem ? driver.Fail(CudaResult.IllegalAddress, $"{Call} of {shape}: {problem}") : Compute(queued));
        if (result != CudaResult.Success)
        {
            throw new CudaException(Call, result, $"{Call} of {shape} failed with {driver.Describe(result)}.");
        }

        Products++;
    }

    /// <inheritdoc/>
    public void Dispose()
    {
    }

    private static CudaResult Compute(in MatrixProduct product)
    {
        var left = new float[(long)product.Rows * product.Depth];
        var right = new float[(long)product.Columns * product.Depth];
        for (int batch = 0; batch < product.Batches; batch++)
        {
            Pack(left, product.A, batch, product.Rows, product.Depth, product.A.Transposed);
            Pack(right, product.B, batch, product.Columns, product.Depth, !product.B.Transposed);
            for (int row = 0; row < product.Rows; row++)
            {
                for (int column = 0; column < product.Columns; column++)
                {
                    long at = (batch * product.C.BatchStride) + (row * product.C.Stride) + column;
                    float sum = product.Alpha * Dot(left.AsSpan(row * product.Depth, product.Depth), right.AsSpan(column * product.Depth, product.Depth));
                    sum += product.Accumulate ? Read(product.C.Address, product.C.Type, at) : 0;
                    sum += product.Bias != 0 ? Read(product.Bias, product.BiasType, column) : 0;
                    Write(product.C, at, sum);
                }
            }
        }

        return CudaResult.Success;
    }

    /// <summary>Lines of an operand one after another, each as long as the sums are deep.</summary>
    private static void Pack(float[] to, in MatrixOperand operand, int batch, int lines, int depth, bool linesAreColumns)
    {
        long start = batch * operand.BatchStride;
        for (int line = 0; line < lines; line++)
        {
            for (int k = 0; k < depth; k++)
            {
                to[((long)line * depth) + k] = Read(operand.Address, operand.Type, start + (linesAreColumns ? (k * operand.Stride) + line : (line * operand.Stride) + k));
            }
        }
    }

    private static float Dot(ReadOnlySpan<float> a, ReadOnlySpan<float> b)
    {
        Vector<float> sums = Vector<float>.Zero;
        int i = 0;
        for (; i <= a.Length - Vector<float>.Count; i += Vector<float>.Count)
        {
            sums += new Vector<float>(a[i..]) * new Vector<float>(b[i..]);
        }

        float sum = Vector.Sum(sums);
        for (; i < a.Length; i++)
        {
            sum += a[i] * b[i];
        }

        return sum;
    }

    private static float Read(nint address, DType type, long index)
        => type == DType.BFloat16 ? BFloat16Bits.ToSingle(((ushort*)address)[index]) : ((float*)address)[index];

    private static void Write(in MatrixOperand operand, long index, float value)
    {
        if (operand.Type == DType.BFloat16)
        {
            ((ushort*)operand.Address)[index] = BFloat16Bits.FromSingle(value);
        }
        else
        {
            ((float*)operand.Address)[index] = value;
        }
    }

    /// <summary>Null, or what cuBLASLt or the memory would not allow.</summary>
    private string? Problem(in MatrixProduct product)
    {
        if (product.A.Type != product.B.Type || product.C.Transposed)
        {
            return "the operands differ in format, or the result is transposed";
        }

        return Outside("A", product.A, product.Batches, product.Rows, product.Depth)
            ?? Outside("B", product.B, product.Batches, product.Depth, product.Columns)
            ?? Outside("C", product.C, product.Batches, product.Rows, product.Columns)
            ?? (product.Bias == 0 || driver.Owns(product.Bias, (nuint)(product.Columns * product.BiasType.Size())) ? null : "the bias lies outside of device memory");
    }

    private string? Outside(string name, in MatrixOperand operand, int batches, int rows, int columns)
    {
        if (rows == 0 || columns == 0 || batches == 0)
        {
            return null;
        }

        (int lines, int length) = operand.Transposed ? (columns, rows) : (rows, columns);
        long elements = ((batches - 1) * operand.BatchStride) + ((lines - 1) * operand.Stride) + length;
        return operand.Stride < length && lines > 1 ? $"rows of {name} overlap: {length} elements, {operand.Stride} from one to the next"
            : driver.Owns(operand.Address, (nuint)(elements * operand.Type.Size())) ? null
            : $"{name} reaches outside of device memory";
    }
}
