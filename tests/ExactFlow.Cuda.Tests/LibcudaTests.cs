using ExactFlow.Tensors;

namespace ExactFlow.Cuda.Tests;

/// <summary>The real driver, where there is one: the same calls that the fake records.</summary>
public sealed class LibcudaTests
{
    /// <summary>A kernel that adds one to every element: out[i] = in[i] + 1 for i below the block size.</summary>
    private static ReadOnlySpan<byte> AddOne => """
        .version 7.0
        .target sm_50
        .address_size 64
        .visible .entry add_one(.param .u64 source, .param .u64 target)
        {
            .reg .b32 %r<2>; .reg .f32 %f<3>; .reg .b64 %d<7>;
            ld.param.u64 %d1, [source];
            ld.param.u64 %d2, [target];
            mov.u32 %r1, %tid.x;
            mul.wide.u32 %d3, %r1, 4;
            add.s64 %d4, %d1, %d3;
            add.s64 %d5, %d2, %d3;
            ld.global.f32 %f1, [%d4];
            add.f32 %f2, %f1, 0f3F800000;
            st.global.f32 [%d5], %f2;
            ret;
        }

        """u8;

    [Fact]
    public unsafe void A_gpu_copies_launches_replays_and_gives_memory_back()
    {
        Assert.SkipUnless(CudaLibrary.Driver.TryLoad(out string where), $"No NVIDIA driver library in {where}.");
        using CudaDevice device = OpenOrSkip();
        byte[] image = [.. AddOne, 0];
        using var module = new CudaModule(device, image);
        using var timer = new CudaTimer(device);
        CudaFunction kernel = module.Function("add_one");
        using Tensor source = device.Persistent([100]);
        using Tensor target = device.Persistent([100]);
        float[] values = [.. Enumerable.Range(0, 100).Select(i => (float)i)];
        source.CopyFrom<float>(values);
        nint from = source.Address;
        nint to = target.Address;
        ReadOnlySpan<nint> arguments = [(nint)(&from), (nint)(&to)];
        var geometry = new LaunchGeometry(1, 1, 1, 100, 1, 1, 0);

        timer.Start();
        device.Launch(kernel, geometry, arguments);
        timer.Stop();
        Assert.Equal(values.Select(value => value + 1), target.ToHost<float>());
        Assert.True(timer.WaitForElapsed() > TimeSpan.Zero);

        target.Zero();
        nint argumentOfGraph = (nint)(&from);
        nint secondArgumentOfGraph = (nint)(&to);
        using CudaGraph graph = device.Capture(() => device.Launch(kernel, geometry, [argumentOfGraph, secondArgumentOfGraph]));
        Assert.Equal(new float[100], target.ToHost<float>());
        graph.Launch();
        Assert.Equal(values.Select(value => value + 1), target.ToHost<float>());

        var exception = Assert.Throws<CudaException>(() => module.Function("absent"));
        Assert.Equal(CudaResult.NotFound, exception.Result);
        Assert.Contains("CUDA_ERROR_NOT_FOUND", exception.Message, StringComparison.Ordinal);
    }

    private static CudaDevice OpenOrSkip()
    {
        try
        {
            return (CudaDevice)DeviceFactory.Parse("cuda");
        }
        catch (InvalidInputException exception)
        {
            Assert.Skip(exception.Message);
            throw;
        }
    }
}
