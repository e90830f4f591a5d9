using ExactFlow.Testing;

namespace ExactFlow.Cuda.Tests;

/// <summary>Ceilings of a GPU: figures that can be, and nothing left behind. How large they are no test says.</summary>
public sealed class CudaCeilingsTests
{
    [Theory]
    [InlineData(CudaTestDevices.Emulated)]
    [InlineData(CudaTestDevices.Real)]
    public void Both_figures_are_measured_and_the_memory_is_given_back(string deviceName)
    {
        using CudaDevice device = CudaTestDevices.Open(deviceName);
        var ceilings = CudaCeilings.Measure(device, copyBytes: 1 << 20, matrixSize: 64);
        Assert.InRange(ceilings.CopyGigabytesPerSecond, 1e-3, 1e6);
        Assert.InRange(ceilings.MatrixProductTeraflops, 1e-6, 1e5);
        Assert.Equal(0, device.Pool.RentedBlocks);
    }
}
