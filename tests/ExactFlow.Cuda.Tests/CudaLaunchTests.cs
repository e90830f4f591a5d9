using ExactFlow.Testing;

namespace ExactFlow.Cuda.Tests;

/// <summary>Modules, launches, graphs and timers on the recording fake.</summary>
public sealed class CudaLaunchTests
{
    [Theory]
    [InlineData(1, 1, 1, 1024, 1, 1, 0, true)]
    [InlineData(int.MaxValue, 65_535, 65_535, 16, 1, 64, 232_448, true)]
    [InlineData(1, 65_536, 1, 32, 1, 1, 0, false)]
    [InlineData(1, 1, 65_536, 32, 1, 1, 0, false)]
    [InlineData(1, 1, 1, 1025, 1, 1, 0, false)]
    [InlineData(1, 1, 1, 32, 33, 1, 0, false)]
    [InlineData(1, 1, 1, 1, 1, 65, 0, false)]
    [InlineData(0, 1, 1, 32, 1, 1, 0, false)]
    [InlineData(1, 1, 1, 32, 1, 1, 232_449, false)]
    [InlineData(1, 1, 1, 32, 1, 1, -1, false)]
    public void Launch_limits_are_checked_before_the_driver_is_asked(int gx, int gy, int gz, int bx, int by, int bz, int shared, bool isValid)
    {
        var driver = new RecordingCudaDriver();
        using var device = new CudaDevice(driver);
        using var module = new CudaModule(device, "ptx\0"u8);
        CudaFunction kernel = module.Function("kernel");
        var geometry = new LaunchGeometry(gx, gy, gz, bx, by, bz, shared);
        if (isValid)
        {
            device.Launch(kernel, geometry, []);
            Assert.Equal([$"cuLaunchKernel {geometry}"], driver.Executed);
        }
        else
        {
            var exception = Assert.Throws<ArgumentException>(() => device.Launch(kernel, geometry, []));
            Assert.Contains("Kernel kernel cannot be launched", exception.Message, StringComparison.Ordinal);
            Assert.Empty(driver.Executed);
        }
    }

    [Fact]
    public void A_missing_kernel_names_the_call_and_the_kernel()
    {
        using var device = new CudaDevice(new RecordingCudaDriver());
        using var module = new CudaModule(device, "ptx\0"u8);
        var exception = Assert.Throws<CudaException>(() => module.Function("absent"));
        Assert.Equal(("cuModuleGetFunction", CudaResult.NotFound), (exception.Call, exception.Result));
        Assert.Contains("(absent)", exception.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_launch_after_its_module_is_gone_fails()
    {
        using var device = new CudaDevice(new RecordingCudaDriver());
        var module = new CudaModule(device, "ptx\0"u8);
        CudaFunction kernel = module.Function("kernel");
        module.Dispose();
        Assert.Throws<CudaException>(() => device.Launch(kernel, new LaunchGeometry(1, 1, 1, 32, 1, 1, 0), []));
        Assert.Throws<ObjectDisposedException>(() => module.Function("kernel"));
    }

    [Fact]
    public void A_captured_step_runs_only_when_its_graph_is_launched_and_in_the_same_order()
    {
        var driver = new RecordingCudaDriver();
        using var device = new CudaDevice(driver);
        using var module = new CudaModule(device, "ptx\0"u8);
        CudaFunction kernel = module.Function("kernel");
        var first = new LaunchGeometry(3, 1, 1, 64, 1, 1, 0);
        var second = new LaunchGeometry(5, 2, 1, 128, 1, 1, 1024);
        using CudaGraph graph = device.Capture(() =>
        {
            device.Launch(kernel, first, []);
            device.Launch(kernel, second, []);
        });
        Assert.Empty(driver.Executed);
        graph.Launch();
        graph.Launch();
        string[] once = [$"cuLaunchKernel {first}", $"cuLaunchKernel {second}"];
        Assert.Equal([.. once, .. once], driver.Executed);
    }

    [Fact]
    public void Waiting_inside_a_capture_is_refused_and_ends_the_capture()
    {
        var driver = new RecordingCudaDriver();
        using (var device = new CudaDevice(driver))
        {
            var exception = Assert.Throws<CudaException>(() => device.Capture(device.Synchronize));
            Assert.Equal(CudaResult.StreamCaptureUnsupported, exception.Result);
            device.Synchronize();
        }

        Assert.Empty(driver.Outstanding);
    }

    [Fact]
    public void A_timer_marks_start_and_stop_around_the_work()
    {
        var driver = new RecordingCudaDriver();
        using (var device = new CudaDevice(driver))
        {
            using var timer = new CudaTimer(device);
            timer.Start();
            timer.Stop();
            Assert.Equal(TimeSpan.FromMilliseconds(1.5), timer.WaitForElapsed());
        }

        Assert.Equal(["cuEventRecord", "cuEventRecord", "cuEventSynchronize", "cuEventElapsedTime", "cuEventDestroy", "cuEventDestroy"], driver.CallNames.Where(name => name.StartsWith("cuEvent", StringComparison.Ordinal)).Skip(2));
        Assert.Empty(driver.Outstanding);
    }
}
