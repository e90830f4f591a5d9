using ExactFlow.Cuda;
using ExactFlow.Tensors;
using ExactFlow.Tensors.MatrixProduct;

namespace ExactFlow.Training.Benchmarks;

/// <summary>The matrix-product rate that a training step's rate is a share of, measured on the device itself.</summary>
public static class DeviceCeiling
{
    private const int Repeats = 5;

    /// <summary>Operations per second of a large square product: of 1024 rows in float32 on the CPU, in the activations' format and large enough to fill it on a GPU.</summary>
    public static double MatrixProductFlops(Device device, DType precision) => device switch
    {
        CpuDevice cpu => 1e9 * MachineCeilings.Measure(cpu.Workers).MatrixProductGigaflops,
        CudaDevice gpu => MeasureAndForget(gpu, precision),
        _ => 0,
    };

    private static double MeasureAndForget(CudaDevice device, DType precision)
    {
        double rate = Measure(device, precision);
        device.Pool.Trim();
        device.Pool.ResetPeak();
        return rate;
    }

    private static double Measure(CudaDevice device, DType precision)
    {
        // Tiles of 128 x 128 in a multiple of the multiprocessors: 8,448 rows on an H100.
        int size = 64 * device.MultiprocessorCount;
        using Tensor a = device.Persistent([size, size], precision);
        using Tensor b = device.Persistent([size, size], precision);
        using Tensor c = device.Persistent([size, size], precision);
        var product = new MatrixProduct
        {
            Rows = size, Columns = size, Depth = size,
            A = new MatrixOperand(a.Address, precision, size), B = new MatrixOperand(b.Address, precision, size, Transposed: true), C = new MatrixOperand(c.Address, precision, size),
        };
        using var timer = new CudaTimer(device);
        var seconds = new double[Repeats];
        for (int i = -1; i < Repeats; i++)
        {
            timer.Start();
            device.Multiply(product);
            timer.Stop();
            double elapsed = timer.WaitForElapsed().TotalSeconds;
            if (i >= 0)
            {
                seconds[i] = elapsed;
            }
        }

        Array.Sort(seconds);
        return 2.0 * size * size * size / seconds[Repeats / 2];
    }
}
