using System.Text.Json.Nodes;
using ExactFlow.Tensors;

namespace ExactFlow.Models.Tests;

public sealed class ConfigTests
{
    public static TheoryData<string> Models => TestModels.Names;

    [Theory]
    [MemberData(nameof(Models))]
    public void A_configuration_survives_its_file(string name)
    {
        LanguageModelConfig config = TestModels.Config(name) with
        {
            BeginToken = 1,
            EndToken = 2,
            MaxPositions = 777,
            NormEpsilon = 1e-5,
            TieEmbeddings = true,
        };
        Assert.Equal(config, LanguageModelConfig.FromJson(config.ToJson()));
    }

    [Fact]
    public void Every_preset_is_valid_for_every_mixer_and_survives_its_file()
    {
        foreach (MixerKind mixer in MixerKind.All)
        {
            foreach (string preset in ModelPresets.Names)
            {
                LanguageModelConfig config = ModelPresets.Create(preset, mixer, 32_000);
                Assert.Equal(config, LanguageModelConfig.FromJson(config.ToJson()));
            }
        }
    }

    [Fact]
    public void Unknown_keys_come_back()
    {
        const string Json = """
            {
              "architectures": ["DeltaNetForCausalLM"], "model_type": "delta_net", "vocab_size": 32000, "hidden_size": 2048, "num_hidden_layers": 24,
              "num_heads": 16, "expand_k": 1, "expand_v": 1, "fuse_norm": true, "transformers_version": "4.48.2", "torch_dtype": "bfloat16",
              "pad_token_id": null, "bos_token_id": 1, "eos_token_id": 2, "nested": { "a": [1, -Infinity, "NaN, quoted \" Infinity"], "b": NaN }, "use_cache": true,
              "hidden_ratio": 4, "intermediate_size": null, "qk_norm": "l2", "qk_activation": "silu", "use_short_conv": true, "conv_size": 4, "use_beta": true
            }
            """;
        LanguageModelConfig config = LanguageModelConfig.FromJson(Json);
        Assert.Equal(5632, config.InnerSize);
        Assert.Equal(128, config.KeyDim);
        Assert.Equal(1_365_677_056, LanguageModel.CountParameters(config));
        string written = config.ToJson();
        Assert.Contains("\"b\": NaN", written, StringComparison.Ordinal);
        Assert.Contains("-Infinity,", written, StringComparison.Ordinal);
        Assert.Contains("\"use_cache\": true", written, StringComparison.Ordinal);
        LanguageModelConfig again = LanguageModelConfig.FromJson(written);
        Assert.True(JsonNode.DeepEquals(config.OtherKeys, again.OtherKeys));
        Assert.Equal(["fuse_norm", "transformers_version", "torch_dtype", "nested", "use_cache"], config.OtherKeys!.Select(pair => pair.Key));
        Assert.Equal(written, again.ToJson());
    }

    [Fact]
    public void Files_of_other_implementations_are_understood()
    {
        LanguageModelConfig gated = LanguageModelConfig.FromJson("""
            { "model_type": "gated_deltanet", "vocab_size": 100, "hidden_size": 64, "num_hidden_layers": 2, "num_heads": 6, "num_v_heads": 12, "head_dim": 16, "expand_v": 2.0, "use_gate": true }
            """);
        Assert.Equal((12, 6, 16, 32), (gated.Heads, gated.KeyHeads, gated.KeyDim, gated.ValueDim));

        // head_dim 10 and expand_k x hidden / heads need not be exact in binary.
        LanguageModelConfig delta = LanguageModelConfig.FromJson("""
            { "model_type": "delta_net", "vocab_size": 100, "hidden_size": 100, "num_hidden_layers": 2, "num_heads": 3, "expand_k": 0.69, "expand_v": 0.3, "allow_neg_eigval": true, "use_gate": true }
            """);
        Assert.Equal((3, 23, 10, true, true), (delta.Heads, delta.KeyDim, delta.ValueDim, delta.DoubleStepSize, delta.OutputGate));

        LanguageModelConfig mamba = LanguageModelConfig.FromJson("""
            { "model_type": "mamba2", "vocab_size": 100, "hidden_size": 64, "num_hidden_layers": 2, "num_heads": 8, "head_dim": 16, "state_size": 32, "n_groups": 2, "expand": 2, "time_step_limit": [0.0, Infinity], "layer_norm_epsilon": 1e-05 }
            """);
        Assert.Equal((8, 2, 32, 16, 1e-5), (mamba.Heads, mamba.KeyHeads, mamba.KeyDim, mamba.ValueDim, mamba.NormEpsilon));

        // The same model in flash-linear-attention's keys; its epsilon has another name.
        LanguageModelConfig fla = LanguageModelConfig.FromJson("""
            { "model_type": "mamba2", "vocab_size": 100, "hidden_size": 64, "num_hidden_layers": 2, "num_heads": 8, "head_dim": 16, "state_size": 32, "n_groups": 1, "expand": 2, "norm_eps": 1e-3, "rmsnorm": true, "norm_before_gate": false, "D_has_hdim": false, "dt_limit": [0.0, Infinity] }
            """);
        Assert.Equal((8, 1, 1e-3), (fla.Heads, fla.KeyHeads, fla.NormEpsilon));
        Assert.Contains("\"norm_eps\": 0.001", fla.ToJson(), StringComparison.Ordinal);
        Assert.Contains("\"layer_norm_epsilon\": 0.001", fla.ToJson(), StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("deltanet", "delta_net")]
    [InlineData("gated_deltanet", "gated_deltanet")]
    [InlineData("mamba2", "mamba2")]
    [InlineData("softmax_attention", "transformer")]
    [InlineData("efla", "efla")]
    [InlineData("explicit_euler", "explicit_euler")]
    public void Only_rules_that_others_have_bear_their_names(string mixer, string modelType)
        => Assert.Contains($"\"model_type\": \"{modelType}\"", ModelPresets.Create("tiny", MixerKind.Parse(mixer), 100).ToJson(), StringComparison.Ordinal);

    [Theory]
    [InlineData("[1]", "object")]
    [InlineData("{", "JSON")]
    [InlineData("{}", "'model_type' is missing")]
    [InlineData("""{ "model_type": "llama" }""", "'llama'")]
    [InlineData("""{ "model_type": "efla", "model_type": "efla" }""", "model_type")]
    [InlineData("""{ "model_type": "efla", "hidden_size": 64, "num_hidden_layers": 2 }""", "'vocab_size' is missing")]
    [InlineData("""{ "model_type": "efla", "vocab_size": "many", "hidden_size": 64, "num_hidden_layers": 2 }""", "'vocab_size' must be an integer, but it is \"many\"")]
    [InlineData("""{ "model_type": "efla", "vocab_size": 1.5, "hidden_size": 64, "num_hidden_layers": 2 }""", "1.5")]
    [InlineData("""{ "model_type": "efla", "vocab_size": 1e99, "hidden_size": 64, "num_hidden_layers": 2 }""", "an integer")]
    [InlineData("""{ "model_type": "efla", "vocab_size": 9, "hidden_size": 64, "num_hidden_layers": -2 }""", "num_hidden_layers")]
    [InlineData("""{ "model_type": "efla", "vocab_size": 9, "hidden_size": 64, "num_hidden_layers": 2, "num_heads": 3 }""", "whole")]
    [InlineData("""{ "model_type": "efla", "vocab_size": 9, "hidden_size": 64, "num_hidden_layers": 2, "num_heads": 0 }""", "heads")]
    [InlineData("""{ "model_type": "efla", "vocab_size": 9, "hidden_size": 64, "num_hidden_layers": 2, "use_short_conv": false }""", "'use_short_conv' is false")]
    [InlineData("""{ "model_type": "efla", "vocab_size": 9, "hidden_size": 64, "num_hidden_layers": 2, "hidden_act": "gelu" }""", "\"swish\" or \"silu\"")]
    [InlineData("""{ "model_type": "efla", "vocab_size": 9, "hidden_size": 64, "num_hidden_layers": 2, "attn": { "layers": [1] } }""", "'attn'")]
    [InlineData("""{ "model_type": "efla", "vocab_size": 9, "hidden_size": 64, "num_hidden_layers": 2, "eos_token_id": 9 }""", "eos_token_id")]
    [InlineData("""{ "model_type": "delta_net", "vocab_size": 9, "hidden_size": 64, "num_hidden_layers": 2, "qk_norm": "sum" }""", "'qk_norm' is \"sum\"")]
    [InlineData("""{ "model_type": "gated_efla", "vocab_size": 9, "hidden_size": 64, "num_hidden_layers": 2, "num_heads": 2, "head_dim": 32, "use_gate": false }""", "use_gate")]
    [InlineData("""{ "model_type": "mamba2", "vocab_size": 9, "hidden_size": 64, "num_hidden_layers": 2, "num_heads": 2, "head_dim": 32, "n_groups": 1 }""", "expand")]
    [InlineData("""{ "model_type": "mamba2", "vocab_size": 9, "hidden_size": 64, "num_hidden_layers": 2, "num_heads": 4, "head_dim": 32, "n_groups": 3 }""", "multiple")]
    [InlineData("""{ "model_type": "mamba2", "vocab_size": 9, "hidden_size": 64, "num_hidden_layers": 2, "num_heads": 4, "head_dim": 32, "n_groups": 1, "time_step_limit": [0.0, 1.0] }""", "[0.0,1.0]")]
    [InlineData("""{ "model_type": "mamba2", "vocab_size": 9, "hidden_size": 64, "num_hidden_layers": 2, "num_heads": 4, "head_dim": 32, "n_groups": 2, "norm_eps": 1e-5 }""", "each group apart")]
    [InlineData("""{ "model_type": "mamba2", "vocab_size": 9, "hidden_size": 64, "num_hidden_layers": 2, "num_heads": 4, "head_dim": 32, "norm_eps": 1e-5, "layer_norm_epsilon": 1e-6 }""", "make them equal")]
    [InlineData("""{ "model_type": "mamba2", "vocab_size": 9, "hidden_size": 64, "num_hidden_layers": 2, "num_heads": 4, "head_dim": 32, "norm_before_gate": true }""", "'norm_before_gate' is true")]
    [InlineData("""{ "model_type": "delta_net", "vocab_size": 9, "hidden_size": 64, "num_hidden_layers": 2, "attnres_block_size": 4 }""", "'attnres_block_size' is 4")]
    [InlineData("""{ "model_type": "transformer", "vocab_size": 9, "hidden_size": 63, "num_hidden_layers": 2, "num_heads": 3 }""", "even")]
    [InlineData("""{ "model_type": "transformer", "vocab_size": 9, "hidden_size": 64, "num_hidden_layers": 2, "num_heads": 2, "window_size": 128 }""", "'window_size' is 128")]
    public void What_cannot_be_built_is_refused_in_one_sentence(string json, string expected)
    {
        string message = Assert.Throws<InvalidInputException>(() => LanguageModelConfig.FromJson(json)).Message;
        Assert.Contains(expected, message, StringComparison.Ordinal);
        Assert.EndsWith(".", message, StringComparison.Ordinal);
    }

    [Fact]
    public void Names_that_do_not_exist_list_those_that_do()
    {
        Assert.Contains("gated_efla", Assert.Throws<InvalidInputException>(() => MixerKind.Parse("elfa")).Message, StringComparison.Ordinal);
        Assert.Contains("1.3b", Assert.Throws<InvalidInputException>(() => ModelPresets.Create("7b", MixerKind.SoftmaxAttention, 9)).Message, StringComparison.Ordinal);
        Assert.Contains("divides", Assert.Throws<InvalidInputException>(() => LanguageModelConfig.Create(MixerKind.SoftmaxAttention, 9, 64, 2, 3)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Generation_defaults_survive_their_file()
    {
        LanguageModelConfig config = ModelPresets.Create("tiny", MixerKind.Parse("efla"), 100) with { EndToken = 5 };
        var options = new GenerationOptions { MaxTokens = 77, StopTokens = [5, 6], Sampling = new SamplerOptions { Temperature = 0.7, TopK = 40, TopP = 0.9, MinP = 0.05, RepetitionPenalty = 1.1 } };
        GenerationOptions again = GenerationConfig.FromJson(GenerationConfig.ToJson(options, config));
        Assert.Equal(options.StopTokens, again.StopTokens);
        Assert.Equal(options, again with { StopTokens = options.StopTokens });
        GenerationOptions greedy = GenerationConfig.FromJson(GenerationConfig.ToJson(new GenerationOptions { Sampling = SamplerOptions.Greedy }, config));
        Assert.Equal(SamplerOptions.Greedy, greedy.Sampling);
        Assert.Equal([5], greedy.StopTokens);
        Assert.Equal(SamplerOptions.Greedy, GenerationConfig.FromJson("""{ "eos_token_id": 2, "temperature": 0.6, "_from_model_config": true }""").Sampling);
        Assert.Contains("top-p", Assert.Throws<InvalidInputException>(() => GenerationConfig.FromJson("""{ "top_p": 2 }""")).Message, StringComparison.Ordinal);
    }
}
