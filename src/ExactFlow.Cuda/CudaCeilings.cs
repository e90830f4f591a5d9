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
        ArgumentOutOfRangeException.ThrowIfNotEqual(matrixSize % RandomRows, 0, nameof(matrixSize));
        return new CudaCeilings(1e-9 * MeasureCopy(device, copyBytes), 1e-12 * MeasureProduct(device, matrixSize));
    }

    /// <summary>Bytes per second.</summary>
    private static double MeasureCopy(CudaDevice device, long bytes)
    {
        using Tensor from = device.Persistent([checked((int)(bytes / sizeof(float)))]), to = device.Persistent(from.Shape);
        return 2 * from.ByteCount / Seconds(device, () => to.CopyFrom(from));
    }

    /// <summary>Operations per second.</summary>
    private static double MeasureProduct(CudaDevice device, int size)
    {
        using Tensor a = RandomMatrix(device, size, "a"), b = RandomMatrix(device, size, "b"), c = device.Persistent([size, size], DType.BFloat16);
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
    private static Tensor RandomMatrix(CudaDevice device, int size, string name)
    {
        var random = new Philox(1, Philox.StreamOf(name));
        var bits = new ushort[RandomRows * size];
        for (int i = 0; i < bits.Length; i++)
        {
            bits[i] = (ushort)(BitConverter.SingleToUInt32Bits((float)random.Normal((ulong)i)) >> 16);
        }

        Tensor matrix = device.Persistent([size, size], DType.BFloat16);
        for (int row = 0; row < size; row += RandomRows)
        {
            using Tensor rows = matrix.Slice(row, RandomRows);
            rows.CopyFrom<ushort>(bits);
        }

        return matrix;
    }
}
