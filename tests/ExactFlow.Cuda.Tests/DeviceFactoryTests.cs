using ExactFlow.Tensors;

namespace ExactFlow.Cuda.Tests;

/// <summary>Device names.</summary>
public sealed class DeviceFactoryTests
{
    [Fact]
    public void Cpu_opens_with_the_threads_asked_for()
    {
        using Device device = DeviceFactory.Parse("cpu", threads: 1);
        Assert.Equal(1, Assert.IsType<CpuDevice>(device).Workers.WorkerCount);
    }

    [Theory]
    [InlineData("")]
    [InlineData("gpu")]
    [InlineData("CPU")]
    [InlineData("cuda:")]
    [InlineData("cuda:-1")]
    [InlineData("cuda: 1")]
    [InlineData("cuda:x")]
    [InlineData("cuda:99999999999")]
    public void Other_names_are_refused_with_the_ones_that_exist(string name)
    {
        var exception = Assert.Throws<InvalidInputException>(() => DeviceFactory.Parse(name));
        Assert.Equal($"\"{name}\" is not a device: choose cpu, cuda, or cuda:N for the N-th GPU, counted from 0.", exception.Message);
    }

    [Theory]
    [InlineData("cuda", "cuda:0")]
    [InlineData("cuda:1", "cuda:1")]
    public void Cuda_without_a_driver_says_what_was_looked_for_and_what_to_install(string name, string device)
    {
        Assert.SkipWhen(CudaLibrary.Driver.TryLoad(out string where), $"This machine has the NVIDIA driver library ({where}).");
        var exception = Assert.Throws<InvalidInputException>(() => DeviceFactory.Parse(name));
        Assert.Contains($"Opening device {device} needs the NVIDIA driver library", exception.Message, StringComparison.Ordinal);
        Assert.Contains(where, exception.Message, StringComparison.Ordinal);
        Assert.Contains("install the NVIDIA driver", exception.Message, StringComparison.Ordinal);
        Assert.Contains("--device cpu", exception.Message, StringComparison.Ordinal);
    }
}
