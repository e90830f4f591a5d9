using ExactFlow.Cuda;
using ExactFlow.Models;
using ExactFlow.Tensors;
using ExactFlow.Tensors.Autograd;

namespace ExactFlow.Training.Tests;

/// <summary>
/// Memory of a training step in bfloat16 at the sizes of the 374M model, on a GPU that only writes down what is asked of it. Activations are counted in widths:
/// numbers of the model's width per token, which is what a block adds whatever the number of blocks and tokens.
/// </summary>
public sealed class StepMemoryTests
{
    private const int Time = 1024;
    private const int Hidden = 1024;

    [Theory]
    [InlineData(Recomputation.None, 24.5)]
    [InlineData(Recomputation.Light, 10.6)]
    [InlineData(Recomputation.Mlp, 5.1)]
    [InlineData(Recomputation.Block, 1)]
    public void A_block_keeps_what_its_level_says(Recomputation level, double expected)
    {
        double widths = (Peak("efla", level, 3) - Peak("efla", level, 2)) / (double)(sizeof(ushort) * Time * Hidden);
        Assert.InRange(widths, expected - 0.2, expected);
    }

    /// <summary>The most bytes in use during a step, without parameters and what belongs to them.</summary>
    private static long Peak(string rule, Recomputation level, int layers)
    {
        using var folder = new TemporaryFolder();
        var driver = new RecordingCudaDriver { KnowsEveryKernel = true, TotalBytes = (nuint)1 << 36 };
        using var device = new CudaDevice(driver, compiler: new NoCompiler(), cache: new KernelCache(folder.Path), matrices: new NoProducts());
        LanguageModelConfig config = ModelPresets.Create("340m", MixerKind.Parse(rule), 1000) with { Layers = layers };
        using var model = new LanguageModel(device, config, precision: DType.BFloat16);
        model.Recompute(level);
        for (int i = 0; ; i++)
        {
            long before = device.Pool.RentedBytes;
            device.Pool.ResetPeak();
            using (Step step = device.BeginStep())
            {
                step.ReleasesBehindBackward = true;
                Tensor ids = device.Zeros([1, Time], DType.Int32);
                model.Loss(ids, ids).Backward();
            }

            // In the first step parameters get their gradients.
            if (i == 1)
            {
                return device.Pool.PeakRentedBytes - before;
            }
        }
    }

    private sealed class NoCompiler : IKernelCompiler
    {
        public string Version => "none";

        public byte[] Compile(string name, string source, IReadOnlyList<string> options) => [1];
    }

    private sealed class NoProducts : IMatrixProducts
    {
        public void Multiply(in MatrixProduct product, nint stream)
        {
        }

        public void Dispose()
        {
        }
    }
}
