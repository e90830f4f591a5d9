using ExactFlow.Operators;
using ExactFlow.Tensors;
using ExactFlow.Tensors.Randomness;

namespace ExactFlow.Models.Tests;

/// <summary>Small models of every mixer with odd sizes, and tokens for them.</summary>
internal static class TestModels
{
    public const int Vocabulary = 29;

    /// <summary>Every mixer, and variants with the features that the plain ones leave off.</summary>
    public static TheoryData<string> Names => [.. Configs.Keys];

    private static readonly Dictionary<string, LanguageModelConfig> Configs = MakeConfigs();

    public static TheoryData<string> Mixers => [.. MixerKind.All.Select(kind => kind.Name)];

    public static LanguageModelConfig Config(string name) => Configs[name];

    public static CpuDevice Device(int threads = 2) => new(threads) { PoisonFreshMemory = true };

    /// <summary>Deterministic token ids.</summary>
    public static int[] Tokens(int count, ulong stream = 1)
    {
        var random = new Philox(7, stream);
        var tokens = new int[count];
        for (int i = 0; i < count; i++)
        {
            tokens[i] = random.Below((ulong)i, Vocabulary);
        }

        return tokens;
    }

    public static Tensor Ids(Device device, params int[][] rows) => device.From<int>(rows.SelectMany(row => row).ToArray(), [rows.Length, rows[0].Length]);

    /// <summary>Last-layer logits of every token, float32, row-major.</summary>
    public static float[] AllLogits(LanguageModel model, Tensor ids, SequenceOffsets? offsets = null)
        => Linear.Apply(model.Forward(ids, offsets), model.Head).ToHost<float>();

    private static Dictionary<string, LanguageModelConfig> MakeConfigs()
    {
        var configs = new Dictionary<string, LanguageModelConfig>();
        foreach (MixerKind mixer in MixerKind.All)
        {
            configs[mixer.Name] = Small(mixer);
        }

        LanguageModelConfig efla = configs["efla"];
        configs["efla, all options"] = efla with
        {
            OutputGate = true,
            DoubleStepSize = true,
            NormalizeKeys = true,
            TieEmbeddings = true,
            ConvolutionWidth = 3,
            KeyDim = 3,
            ValueDim = 9,
            Layers = 3,
        };
        configs["gated_efla, shared keys"] = configs["gated_efla"] with { Heads = 4, KeyHeads = 2 };
        configs["mamba2, two groups"] = configs["mamba2"] with { KeyHeads = 2, TieEmbeddings = true };
        configs["softmax_attention, shared keys"] = configs["softmax_attention"] with { Heads = 4, KeyHeads = 2, KeyDim = 6, ValueDim = 6, RopeTheta = 100 };
        return configs;
    }

    /// <summary>Weights large enough that every path of the model matters.</summary>
    private static LanguageModelConfig Small(MixerKind mixer)
    {
        LanguageModelConfig config = LanguageModelConfig.Create(mixer, Vocabulary, 20, 2, 2) with { InitializerRange = 0.35 };
        return mixer.Family switch
        {
            MixerFamily.Mamba2 => config with { Layers = 2, KeyDim = 7, ValueDim = 5, Heads = 8 },
            MixerFamily.Softmax => config with { InnerSize = 23 },
            _ => config with { InnerSize = 23, KeyDim = 7, ValueDim = 5, ConvolutionInitializerRange = IsStable(mixer) ? 0.6 : 0.2 },
        };
    }

    /// <summary>The Runge-Kutta steps blow up over long sequences unless beta |k|^2 stays below about 2.</summary>
    private static bool IsStable(MixerKind mixer) => mixer.Name is not ("explicit_euler" or "rk2" or "rk4");
}
