using ExactFlow.Cuda;
using ExactFlow.Models;
using ExactFlow.Operators;
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
    private const int Vocabulary = 1000;

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

    /// <summary>
    /// Memory taken from the GPU for steps of the 374M model on 32 x 2048 tokens, everything included: it is linear in blocks and in tokens, so that four small
    /// steps tell it. The cross-entropy's logits come and go before the backward pass needs more than they.
    /// </summary>
    [Fact]
    public void A_step_of_65536_tokens_takes_at_most_40_GiB_when_it_recomputes_lightly()
    {
        const int Blocks = 24, Step = 1024;
        const double Tokens = 32 * 2048;
        double one = Reserved(1, Step), twoBlocks = Reserved(2, Step), twiceTheTokens = Reserved(1, 2 * Step), both = Reserved(2, 2 * Step);
        double ofBlockAndToken = (both - twoBlocks - twiceTheTokens + one) / Step;
        double ofToken = ((twiceTheTokens - one) / Step) - ofBlockAndToken;
        double ofBlock = twoBlocks - one - (Step * ofBlockAndToken);
        double rest = one - (Step * (ofToken + ofBlockAndToken)) - ofBlock;

        // Values, gradients and two moments in float32, a copy in bfloat16: of the embedding and the head for 32,000 tokens instead of the few here.
        const double OfVocabulary = 2.0 * (32_000 - Vocabulary) * Hidden * (4 + 4 + 8 + 2);
        double bytes = rest + OfVocabulary + (Blocks * ofBlock) + (Tokens * (ofToken + (Blocks * ofBlockAndToken)));
        Assert.InRange(bytes / (1 << 30), 30, 40);
    }

    /// <summary>Bytes held from the GPU after steps that were captured and replayed.</summary>
    private static double Reserved(int layers, int time)
    {
        using var folder = new TemporaryFolder();
        var driver = new RecordingCudaDriver { KnowsEveryKernel = true, TotalBytes = (nuint)1 << 36 };
        using var device = new CudaDevice(driver, compiler: new NoCompiler(), cache: new KernelCache(folder.Path), matrices: new NoProducts());
        using var model = new LanguageModel(device, ModelPresets.Create("340m", MixerKind.Parse("efla"), Vocabulary) with { Layers = layers }, precision: DType.BFloat16);
        model.Recompute(Recomputation.Light);
        using var optimizer = new AdamW(model.Parameters);
        using var step = new GraphedStep(device, (inputs, targets, _) => model.Loss(inputs, targets), optimizer, new GraphedStepOptions(1, time, 1, 1, UseGraph: true));
        var text = new TokenStream(new int[time + 1], time, 1);
        for (int i = 0; i < 4; i++)
        {
            step.Run(text, 0, 1e-3f);
        }

        device.Pool.Trim();
        return device.Pool.ReservedBytes;
    }

    /// <summary>The most bytes in use during a step, without parameters and what belongs to them.</summary>
    private static long Peak(string rule, Recomputation level, int layers)
    {
        using var folder = new TemporaryFolder();
        var driver = new RecordingCudaDriver { KnowsEveryKernel = true, TotalBytes = (nuint)1 << 36 };
        using var device = new CudaDevice(driver, compiler: new NoCompiler(), cache: new KernelCache(folder.Path), matrices: new NoProducts());
        LanguageModelConfig config = ModelPresets.Create("340m", MixerKind.Parse(rule), Vocabulary) with { Layers = layers };
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
