using System.Collections.Concurrent;
using ExactFlow.Tensors;
using ExactFlow.Tensors.Autograd;
using ExactFlow.Testing;
using ExactFlow.Testing.Emulation;

namespace ExactFlow.Cuda.Tests;

/// <summary>Several devices on one GPU: each has a stream, a pool and graphs of its own, all share the GPU's context.</summary>
public sealed class CudaLaneTests
{
    [Fact]
    public void Devices_on_one_gpu_share_its_context_and_nothing_else()
    {
        var driver = new RecordingCudaDriver();
        using (var first = new CudaDevice(driver))
        {
            using (var second = new CudaDevice(driver))
            {
                Assert.NotEqual(first.Stream, second.Stream);
                using Tensor ofSecond = second.Persistent([4]);
                Assert.Equal(0, first.Pool.RentedBlocks);
            }

            using Tensor ofFirst = first.Persistent([3]);
            ofFirst.CopyFrom<float>([1f, 2f, 3f]);
            Assert.Equal([1f, 2f, 3f], ofFirst.ToHost<float>());
        }

        Assert.Empty(driver.Outstanding);
    }

    [Fact]
    public void A_thread_may_use_devices_in_turns()
    {
        var driver = new RecordingCudaDriver();
        using var first = new CudaDevice(driver);
        using var second = new CudaDevice(driver);
        using Tensor a = first.Persistent([1]), b = second.Persistent([1]);
        for (int i = 0; i < 3; i++)
        {
            a.CopyFrom<float>([i]);
            b.CopyFrom<float>([-i]);
            Assert.Equal((i, -i), (a.Item(), b.Item()));
        }
    }

    [Fact]
    public void Threads_capture_and_replay_while_others_allocate_and_wait()
    {
        const int Threads = 4, Rounds = 6;
        var driver = new EmulatedCudaDriver();
        Assert.SkipUnless(EmulatedKernelCompiler.IsAvailable, "The emulated GPU compiles kernels with g++ on x64 Linux, and there is no g++ on the PATH.");
        var failures = new ConcurrentBag<Exception>();
        Thread[] threads = [.. Enumerable.Range(0, Threads).Select(number => new Thread(() =>
        {
            try
            {
                Work(driver, number, Rounds);
            }
            catch (Exception exception)
            {
                failures.Add(exception);
            }
        }))];
        Array.ForEach(threads, thread => thread.Start());
        Array.ForEach(threads, thread => thread.Join());
        Assert.Empty(failures);
        Assert.Empty(driver.Outstanding);
    }

    /// <summary>Each of these makes the driver wait for the whole GPU, which would break the capture.</summary>
    [Theory]
    [InlineData("open", "cuStreamCreate")]
    [InlineData("close", "cuStreamDestroy")]
    [InlineData("load", "cuModuleLoadData")]
    [InlineData("unload", "cuModuleUnload")]
    [InlineData("pin", "cuMemHostAlloc")]
    [InlineData("unpin", "cuMemFreeHost")]
    public void What_waits_for_the_whole_gpu_waits_for_a_capture_of_another_device(string what, string call)
    {
        var driver = new RecordingCudaDriver();
        using var first = new CudaDevice(driver);
        var second = new CudaDevice(driver);
        CudaModule? module = what == "unload" ? new CudaModule(second, [1]) : null;
        CudaReadback? readback = null;
        if (what == "unpin")
        {
            new CudaReadback(second, 4).Dispose();
        }

        var begun = new ManualResetEventSlim();
        var other = new Thread(() =>
        {
            begun.Set();
            switch (what)
            {
                case "open": new CudaDevice(driver).Dispose(); break;
                case "close": second.Dispose(); break;
                case "load": module = new CudaModule(second, [1]); break;
                case "unload": module!.Dispose(); break;
                case "pin": readback = new CudaReadback(second, 4); break;
                default: second.Dispose(); break;
            }
        });
        int before = Calls();
        using (CudaGraph graph = first.Capture(() =>
        {
            other.Start();
            begun.Wait(TestContext.Current.CancellationToken);
            Assert.False(other.Join(TimeSpan.FromMilliseconds(50)), "It went on beside the capture.");
            Assert.Equal(before, Calls());
        }))
        {
            other.Join();
            Assert.True(Calls() > before);
        }

        module?.Dispose();
        readback?.Dispose();
        second.Dispose();

        int Calls() => driver.Calls.ToArray().Count(made => made.StartsWith(call, StringComparison.Ordinal));
    }

    [Fact]
    public void Page_locked_memory_is_kept_until_the_device_ends_and_used_again()
    {
        var driver = new RecordingCudaDriver();
        using (var device = new CudaDevice(driver))
        {
            for (int i = 0; i < 3; i++)
            {
                using var small = new CudaReadback(device, 4);
                using var other = new CudaReadback(device, 12, depth: 5);
            }

            using var large = new CudaReadback(device, 5000);
            Assert.Equal(["cuMemHostAlloc 4096", "cuMemHostAlloc 4096", "cuMemHostAlloc 16384"], Calls("cuMemHostAlloc"));
            Assert.Empty(Calls("cuMemFreeHost"));
        }

        Assert.Equal(3, Calls("cuMemFreeHost").Length);
        Assert.Empty(driver.Outstanding);

        string[] Calls(string call) => [.. driver.Calls.Where(made => made.StartsWith(call, StringComparison.Ordinal))];
    }

    [Fact]
    public void A_kernel_that_many_devices_want_at_once_is_compiled_once()
    {
        using var folder = new TemporaryFolder();
        var compiler = new CountingCompiler();
        Parallel.For(0, 8, _ => Assert.Equal([1, 2, 3], new KernelCache(folder.Path).Get(compiler, "kernel.cu", "source", [])));
        Assert.Equal(1, compiler.Count);
    }

    private static void Work(EmulatedCudaDriver driver, int number, int rounds)
    {
        for (int round = 0; round < rounds; round++)
        {
            using CudaDevice device = CudaTestDevices.OpenEmulated(driver);
            using Tensor source = device.Persistent([64]), target = device.Persistent([64]);
            float[] values = [.. Enumerable.Range(0, 64).Select(i => (number * 1000f) + (round * 100) + i)];
            source.CopyFrom<float>(values);
            using CudaGraph graph = device.Capture(() =>
            {
                target.CopyFrom(source);
                Thread.Yield();
                source.Zero();
            });
            Assert.All(target.ToHost<float>(), value => Assert.Equal(0, value));
            graph.Launch();
            Assert.Equal(values, target.ToHost<float>());
            using Step step = device.BeginStep();
            Assert.Equal(values, device.From<float>(values, [64]).ToHost<float>());
        }
    }

    private sealed class CountingCompiler : IKernelCompiler
    {
        private int count;

        public int Count => count;

        public string Version => "1";

        public byte[] Compile(string name, string source, IReadOnlyList<string> options)
        {
            Interlocked.Increment(ref count);
            Thread.Sleep(20);
            return [1, 2, 3];
        }
    }
}
