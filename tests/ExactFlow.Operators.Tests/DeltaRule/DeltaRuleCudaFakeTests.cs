using ExactFlow.Cuda;
using ExactFlow.Tensors;
using ExactFlow.Testing;

namespace ExactFlow.Operators.Tests.DeltaRule;

/// <summary>The host side of the GPU's delta rule on the recording fake: what is launched and copied, and that nothing is lost when a call fails.</summary>
public sealed class DeltaRuleCudaFakeTests
{
    private static readonly HashSet<string> Kernels = new(
        from width in (string[])["64", "128"]
        from kernel in (string[])["prepare", "scan", "segments", "combine", "combine_back", "dscan", "dsegments", "grads"]
        select $"delta_{kernel}_{width}{(kernel is "scan" or "segments" or "dscan" or "dsegments" ? "x1" : "")}",
        StringComparer.Ordinal)
    { "delta_sum_heads", "add_into_bfloat16", "add_into_float32" };

    [Theory]
    [InlineData(64, 1)]
    [InlineData(128, 1)]
    [InlineData(128, 4)]
    public void A_repeated_step_only_uploads_and_launches(int dim, int segments)
    {
        using var folder = new TemporaryFolder();
        var driver = new RecordingCudaDriver { Kernels = Kernels };
        using (CudaDevice device = Open(driver, folder))
        {
            Run(device, dim, segments);
            int before = driver.CallNames.Count();
            Run(device, dim, segments);
            string[] repeated = [.. driver.CallNames.Skip(before).Distinct().Order(StringComparer.Ordinal)];
            Assert.Equal(["cuLaunchKernel", "cuMemcpyHtoDAsync"], repeated);
            Assert.Equal(0, device.Pool.RentedBlocks);
        }

        Assert.Empty(driver.Outstanding);
    }

    private static CudaDevice Open(RecordingCudaDriver driver, TemporaryFolder folder) => new(driver, compiler: new NoCompiler(), cache: new KernelCache(folder.Path));

    private static void Run(CudaDevice device, int dim, int segments)
    {
        using var step = device.BeginStep();
        Shape keys = [1, 300, 1, dim], values = [1, 300, 2, 64], scalars = [1, 300, 2];
        Tensor q = Half(keys), k = Half(keys), v = Half(values), beta = device.From<float>(new float[scalars.Count], scalars).RequireGrad();
        DeltaRuleResult result = DeltaRuleCuda.Apply(device, DeltaRuleKind.Efla, q, k, v, beta, null, DeltaRuleOptions.Default, segments);
        result.Output.Backward(device.From<ushort>(new ushort[values.Count], values));
        Assert.All((Tensor[])[q, k, v, beta], input => Assert.Equal(input.Shape, input.Grad?.Shape));

        Tensor Half(Shape shape) => device.From<ushort>(new ushort[shape.Count], shape).RequireGrad();
    }

    private sealed class NoCompiler : IKernelCompiler
    {
        public string Version => "none";

        public byte[] Compile(string name, string source, IReadOnlyList<string> options) => [1];
    }
}
