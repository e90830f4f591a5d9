using ExactFlow.Tensors;
using ExactFlow.Tensors.Autograd;
using ExactFlow.Testing;

namespace ExactFlow.Cuda.Tests;

/// <summary>The device on the recording fake: what it asks of the driver, in which order, and that nothing is left behind.</summary>
public sealed class CudaDeviceTests
{
    [Fact]
    public void Opening_initialises_once_and_closing_gives_everything_back()
    {
        var driver = new RecordingCudaDriver();
        using (var device = new CudaDevice(driver))
        {
            Assert.Equal("cuda:0", device.Name);
            Assert.Equal("Recording GPU", device.ModelName);
            Assert.Equal(new Version(9, 0), device.ComputeCapability);
            Assert.Equal(132, device.MultiprocessorCount);
            Assert.Equal(["context", "stream"], driver.Outstanding.Order());
        }

        Assert.Empty(driver.Outstanding);
        Assert.Equal("cuInit", driver.Calls[0]);
        Assert.Single(driver.CallNames, "cuInit");
        Assert.Equal(["cuStreamDestroy", "cuDevicePrimaryCtxRelease"], driver.CallNames.TakeLast(2));
    }

    [Fact]
    public void Values_travel_to_the_device_and_back_through_tensors()
    {
        var driver = new RecordingCudaDriver();
        using var device = new CudaDevice(driver) { PoisonFreshMemory = true };
        float[] values = [1f, -2f, 3.5f, float.Epsilon, float.MaxValue];
        using (device.BeginStep())
        {
            Tensor original = device.From<float>(values, [5]);
            Tensor copy = device.Empty([5]);
            Assert.All(copy.ToHost<float>(), value => Assert.True(float.IsNaN(value)));
            copy.CopyFrom(original);
            original.Zero();
            Assert.Equal(values, copy.ToHost<float>());
            Assert.Equal(new float[5], original.ToHost<float>());
        }

        Assert.Equal(0, device.Pool.RentedBlocks);
    }

    [Fact]
    public void A_steady_step_asks_the_driver_for_no_memory()
    {
        var driver = new RecordingCudaDriver();
        using var device = new CudaDevice(driver);
        for (int i = 0; i < 5; i++)
        {
            using (device.BeginStep())
            {
                device.Zeros([100]);
                device.Zeros([3, 7, 65]);
            }
        }

        Assert.Equal(2, driver.CallNames.Count(name => name == "cuMemAllocAsync"));
        Assert.DoesNotContain("cuMemFreeAsync", driver.CallNames);
    }

    [Fact]
    public void Empty_tensors_make_no_copies()
    {
        var driver = new RecordingCudaDriver();
        using var device = new CudaDevice(driver);
        using (device.BeginStep())
        {
            Tensor empty = device.From<float>([], [0, 4]);
            Assert.Empty(empty.ToHost<float>());
        }

        Assert.Empty(driver.Executed);
    }

    [Fact]
    public void A_kept_tensor_outlives_its_step()
    {
        var driver = new RecordingCudaDriver();
        using var device = new CudaDevice(driver);
        Tensor kept;
        using (Step step = device.BeginStep())
        {
            kept = step.Keep(device.From<int>([7, 8], [2]));
        }

        Assert.Equal([7, 8], kept.ToHost<int>());
        kept.Dispose();
        Assert.Equal(0, device.Pool.RentedBlocks);
    }

    [Fact]
    public void Full_memory_frees_unused_blocks_before_giving_up()
    {
        var driver = new RecordingCudaDriver { TotalBytes = 16_384 };
        using var device = new CudaDevice(driver);
        device.Persistent([2048]).Dispose();
        using (Tensor other = device.Persistent([3072]))
        {
            Assert.Contains("cuMemFreeAsync 8192", driver.Calls);
            var exception = Assert.Throws<OutOfMemoryException>(() => device.Persistent([1280]));
            Assert.Contains("cuda:0 has no room for 5,120 more bytes", exception.Message, StringComparison.Ordinal);
        }
    }

    [Fact]
    public async Task The_context_follows_the_device_to_another_thread()
    {
        var driver = new RecordingCudaDriver();
        using var device = new CudaDevice(driver);
        using Tensor tensor = device.Persistent([3]);
        var other = new TaskCompletionSource<float[]>();
        var thread = new Thread(() =>
        {
            try
            {
                other.SetResult(tensor.ToHost<float>());
            }
            catch (Exception exception)
            {
                other.SetException(exception);
            }
        });
        thread.Start();
        Assert.Equal(new float[3], await other.Task);
    }

    [Fact]
    public void Two_devices_on_one_thread_keep_their_contexts_apart()
    {
        var driver = new RecordingCudaDriver();
        var second = new RecordingCudaDriver();
        using var a = new CudaDevice(driver);
        using var b = new CudaDevice(second);
        using Tensor onA = a.Persistent([1]);
        using Tensor onB = b.Persistent([1]);
        onA.CopyFrom<float>([1f]);
        onB.CopyFrom<float>([2f]);
        Assert.Equal(1f, onA.Item());
        Assert.Equal(2f, onB.Item());
    }

    [Theory]
    [InlineData(0, 0, "reports no GPU")]
    [InlineData(1, 1, "reports one GPU, cuda:0")]
    [InlineData(3, 7, "reports 3 GPUs, cuda:0 to cuda:2")]
    public void A_missing_gpu_is_an_input_error(int count, int ordinal, string expected)
    {
        var driver = new RecordingCudaDriver { DeviceCount = count };
        var exception = Assert.Throws<InvalidInputException>(() => new CudaDevice(driver, ordinal));
        Assert.Contains(expected, exception.Message, StringComparison.Ordinal);
        Assert.Empty(driver.Outstanding);
    }

    [Fact]
    public void An_old_driver_is_refused_with_both_versions()
    {
        var driver = new RecordingCudaDriver { Version = 11_080 };
        var exception = Assert.Throws<InvalidInputException>(() => new CudaDevice(driver));
        Assert.Contains("CUDA 12.0 or newer", exception.Message, StringComparison.Ordinal);
        Assert.Contains("CUDA 11.8 at most", exception.Message, StringComparison.Ordinal);
    }
}
