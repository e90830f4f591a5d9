using ExactFlow.Tensors;
using ExactFlow.Testing;

namespace ExactFlow.Cuda.Tests;

/// <summary>Every driver call of a scenario fails once: the error must name the call, and nothing may stay behind.</summary>
public sealed class CudaFailureTests
{
    [Fact]
    public void Every_call_failing_once_is_a_named_error_without_a_leak()
    {
        var healthy = new RecordingCudaDriver();
        Scenario(healthy);
        Assert.Empty(healthy.Outstanding);
        string[] names = [.. healthy.CallNames];
        Assert.True(names.Distinct().Count() >= 30, $"The scenario makes only {names.Distinct().Count()} different calls.");
        for (int i = 0; i < names.Length; i++)
        {
            var driver = new RecordingCudaDriver();
            driver.FailCall(i, CudaResult.LaunchFailed);
            CudaException exception = Assert.Throws<CudaException>(() => Scenario(driver));
            Assert.Equal(names[i], exception.Call);
            Assert.Equal(CudaResult.LaunchFailed, exception.Result);
            Assert.StartsWith(names[i], exception.Message, StringComparison.Ordinal);
            Assert.Equal(LeftByFailed(healthy.Calls[i]), driver.Outstanding);
        }
    }

    /// <summary>What the failed release itself could not give back: nothing else may remain.</summary>
    private static string[] LeftByFailed(string call)
    {
        string[] words = call.Split(' ');
        return words[0] switch
        {
            "cuMemFreeAsync" => [$"{words[1]} bytes"],
            "cuStreamDestroy" => ["stream"],
            "cuEventDestroy" => ["event"],
            "cuModuleUnload" => ["module"],
            "cuGraphDestroy" => ["graph"],
            "cuGraphExecDestroy" => ["executable graph"],
            "cuDevicePrimaryCtxRelease" => ["context"],
            _ => [],
        };
    }

    /// <summary>A life of a device that makes every call of the seam at least once.</summary>
    private static void Scenario(RecordingCudaDriver driver)
    {
        using var device = new CudaDevice(driver) { PoisonFreshMemory = true };
        using Tensor weights = device.Persistent([65]);
        using var module = new CudaModule(device, "ptx\0"u8);
        using var timer = new CudaTimer(device);
        CudaFunction kernel = module.Function("kernel");
        var geometry = new LaunchGeometry(7, 1, 1, 64, 1, 1, 0);
        using (device.BeginStep())
        {
            Tensor input = device.From<float>([1f, 2f, 3f], [3]);
            Tensor output = device.Zeros([3]);
            timer.Start();
            device.Launch(kernel, geometry, [input.Address, output.Address]);
            timer.Stop();
            output.CopyFrom(input);
            Assert.Equal([1f, 2f, 3f], output.ToHost<float>());
            timer.WaitForElapsed();
        }

        using CudaGraph graph = device.Capture(() => device.Launch(kernel, geometry, []));
        graph.Launch();
        device.Synchronize();
        device.Pool.Trim();
    }
}
