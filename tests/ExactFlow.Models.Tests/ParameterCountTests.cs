namespace ExactFlow.Models.Tests;

public sealed class ParameterCountTests
{
    [Theory]
    [InlineData("340m", "efla", 374_362_112)]
    [InlineData("340m", "deltanet", 374_362_112)]
    [InlineData("1.3b", "efla", 1_365_677_056)]
    [InlineData("1.3b", "deltanet", 1_365_677_056)]
    public void The_sizes_of_the_paper_have_its_parameter_counts(string preset, string mixer, long expected)
        => Assert.Equal(expected, LanguageModel.CountParameters(ModelPresets.Create(preset, MixerKind.Parse(mixer), 32_000)));

    public static TheoryData<string> Mixers => [.. MixerKind.All.Select(kind => kind.Name)];

    [Theory]
    [MemberData(nameof(Mixers))]
    public void Counting_agrees_with_a_formula(string mixer)
    {
        LanguageModelConfig config = ModelPresets.Create("compare", MixerKind.Parse(mixer), 4096);
        long hidden = config.HiddenSize;
        long keys = (long)config.KeyHeads * config.KeyDim;
        long values = (long)config.Heads * config.ValueDim;
        long heads = config.Heads;
        long mlp = hidden + (3 * hidden * config.InnerSize);
        long delta = hidden + mlp + (2 * hidden * keys) + (2 * hidden * values) + (4 * ((2 * keys) + values)) + config.ValueDim;
        long block = config.Mixer.Family switch
        {
            MixerFamily.Softmax => hidden + mlp + (4 * hidden * hidden),
            MixerFamily.Mamba2 => hidden + ((values + values + (2 * keys) + heads) * hidden) + (5 * (values + (2 * keys))) + (3 * heads) + values + (values * hidden),
            MixerFamily.Gated => delta + (2 * heads * hidden) + (2 * heads) + (hidden * values),
            _ => delta + (mixer == "linear_attention" ? 0 : heads * hidden),
        };
        Assert.Equal((2 * 4096 * hidden) + hidden + (config.Layers * block), LanguageModel.CountParameters(config));
    }

    [Fact]
    public void A_tied_head_has_no_parameters_of_its_own()
    {
        LanguageModelConfig config = ModelPresets.Create("compare", MixerKind.Parse("efla"), 4096);
        Assert.Equal(LanguageModel.CountParameters(config) - (4096 * 256), LanguageModel.CountParameters(config with { TieEmbeddings = true }));
    }
}
