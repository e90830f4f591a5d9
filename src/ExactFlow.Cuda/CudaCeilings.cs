using ExactFlow.Tensors;
using ExactFlow.Tensors.Randomness;

namespace ExactFlow.Cuda;

/// <summary>
/// What a GPU was measured to do, now: what shares are shares of. Each figure is the median of several replays of a graph of repetitions, timed on the device,
/// after one that warms it up.
/// </summary>
/// <param name="CopyGigabytesPerSecond">Copying from memory to memory of the GPU, bytes read plus bytes written, in 10^9 bytes per second.</param>
/// <param name="MatrixProductTeraflops">A product of square bfloat16 matrices of random numbers, summed in float32, in 10^12 operations per second. (Zeros would be faster: they use less power.)</param>
public sealed record CudaCeilings(double CopyGigabytesPerSecond, double MatrixProductTeraflops)
{
    private const int Repetitions = 10, Replays = 5, RandomRows = 64;

    /// <summary>Measures both; takes well under a second and, meanwhile, 2 GiB of the GPU's memory, or less where sizes are given.</summary>
    /// <param name="device">The GPU; no step may be open.</param>
    /// <param name="copyBytes">Bytes to copy: far more than caches hold.</param>
    /// <param name="matrixSize">Rows and columns of the matrices, a multiple of 64.</param>
    /// <exception cref="InvalidInputException">cuBLASLt is missing.</exception>
    public static CudaCeilings Measure(CudaDevice device, long copyBytes = 1L << 30, int matrixSize = 8192)
    {
        ArgumentNullException.ThrowIfNull(device);
        return new CudaCeilings(1e-9 * MeasureCopy(device, copyBytes), 1e-12 * MatrixProductRate(device, DType.BFloat16, matrixSize));
    }

    /// <summary>Bytes per second.</summary>
    private static double MeasureCopy(CudaDevice device, long bytes)
    {
        using Tensor from = device.Persistent([checked((int)(bytes / sizeof(float)))]), to = device.Persistent(from.Shape);
        return 2 * from.ByteCount / Seconds(device, () => to.CopyFrom(from));
    }

    /// <summary>Operations per second of a product of square matrices of random numbers.</summary>
    /// <param name="device">The GPU; no step may be open.</param>
    /// <param name="format">Number format of all three matrices.</param>
    /// <param name="size">Rows and columns, a multiple of 64.</param>
    public static double MatrixProductRate(CudaDevice device, DType format = DType.BFloat16, int size = 8192)
    {
        ArgumentNullException.ThrowIfNull(device);
        ArgumentOutOfRangeException.ThrowIfNotEqual(size % RandomRows, 0, nameof(size));
        using Tensor a = RandomMatrix(device, format, size, "a"), b = RandomMatrix(device, format, size, "b"), c = device.Persistent([size, size], format);
        var product = new MatrixProduct
        {
            Rows = size,
            Columns = size,
            Depth = size,
            A = new MatrixOperand(a.Address, a.DType, size),
            B = new MatrixOperand(b.Address, b.DType, size, Transposed: true),
            C = new MatrixOperand(c.Address, c.DType, size),
        };
        return 2.0 * size * size * size / Seconds(device, () => device.Multiply(product));
    }

    /// <summary>Time of one repetition.</summary>
    private static double Seconds(CudaDevice device, Action work)
    {
        work();
        using CudaGraph graph = device.Capture(() =>
        {
            for (int i = 0; i < Repetitions; i++)
            {
                work();
            }
        });
        graph.Launch();
        using var timer = new CudaTimer(device);
        var seconds = new double[Replays];
        for (int i = 0; i < Replays; i++)
        {
            timer.Start();
            graph.Launch();
            timer.Stop();
            seconds[i] = timer.WaitForElapsed().TotalSeconds / Repetitions;
        }

        Array.Sort(seconds);
        return seconds[Replays / 2];
    }

    /// <summary>Standard normal numbers, the same rows again and again, which a product does not notice.</summary>
    private static Tensor RandomMatrix(CudaDevice device, DType format, int size, string name)
    {
        var values = new float[RandomRows * size];
        new Philox(1, Philox.StreamOf(name)).FillNormal(values, 1);
        ushort[] halves = format == DType.BFloat16 ? Array.ConvertAll(values, value => (ushort)(BitConverter.SingleToUInt32Bits(value) >> 16)) : [];
        Tensor matrix = device.Persistent([size, size], format);
        for (int row = 0; row < size; row += RandomRows)
        {
            using Tensor rows = matrix.Slice(row, RandomRows);
            if (format == DType.BFloat16)
            {
                rows.CopyFrom<ushort>(halves);
            }
            else
            {
                rows.CopyFrom<float>(values);
            }
        }

        return matrix;
    }
}
