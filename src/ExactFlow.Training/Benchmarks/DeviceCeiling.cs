using ExactFlow.Cuda;
using ExactFlow.Tensors;
using ExactFlow.Tensors.MatrixProduct;

namespace ExactFlow.Training.Benchmarks;

/// <summary>The matrix-product rate that a training step's rate is a share of, measured on the device itself.</summary>
public static class DeviceCeiling
{
    private const int RowsPerMultiprocessor = 64;

    /// <summary>
    /// Operations per second of a large square product: of 1024 rows in float32 on the CPU, in the activations' format and large enough to fill it on a GPU.
    /// 0 where there is no room for it.
    /// </summary>
    public static double MatrixProductFlops(Device device, DType precision) => device switch
    {
        CpuDevice cpu => 1e9 * MachineCeilings.Measure(cpu.Workers).MatrixProductGigaflops,
        CudaDevice gpu => MeasureAndForget(gpu, precision),
        _ => 0,
    };

    private static double MeasureAndForget(CudaDevice device, DType precision)
    {
        try
        {
            // 8,448 rows on an H100: tiles of 128 x 128 in a multiple of the multiprocessors.
            return CudaCeilings.MatrixProductRate(device, precision, RowsPerMultiprocessor * device.MultiprocessorCount);
        }
        catch (OutOfMemoryException)
        {
            return 0;
        }
        finally
        {
            device.Pool.Trim();
            device.Pool.ResetPeak();
        }
    }
}
