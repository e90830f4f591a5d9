using System.Text.Json.Nodes;
using ExactFlow.Tensors;

namespace ExactFlow.Models;

/// <summary>
/// <see cref="LanguageModelConfig"/> as config.json, with the keys of the flash-linear-attention models and Mamba-2.
/// A feature that those keys can ask for and that is not implemented is refused: a model that runs differently from what its file says is worse than none.
/// </summary>
internal static class ConfigJson
{
    private const double DefaultHiddenRatio = 4;

    public static LanguageModelConfig Read(string json, string file)
    {
        var fields = JsonFields.Parse(json, file);
        MixerKind mixer = MixerKind.OfModelType(fields.Text("model_type"), file);
        LanguageModelConfig config = mixer.Family switch
        {
            MixerFamily.Mamba2 => ReadMamba2(fields, Common(fields, mixer)),
            MixerFamily.Softmax => ReadSoftmax(fields, Common(fields, mixer)),
            MixerFamily.Gated => ReadGated(fields, Common(fields, mixer)),
            _ => ReadDelta(fields, Common(fields, mixer)),
        };
        fields.Ignore("attn_mode", "\"chunk\"");
        fields.Ignore("architectures", $"[\"{ClassName(mixer)}\"]");
        JsonObject rest = fields.Rest();
        return (rest.Count == 0 ? config : config with { OtherKeys = rest }).Validate();
    }

    public static string Write(LanguageModelConfig config)
    {
        var json = new JsonObject();
        if (ClassName(config.Mixer) is { } className)
        {
            json["architectures"] = new JsonArray(className);
        }

        json["model_type"] = config.Mixer.ModelType;
        json["vocab_size"] = config.VocabularySize;
        json["hidden_size"] = config.HiddenSize;
        json["num_hidden_layers"] = config.Layers;
        switch (config.Mixer.Family)
        {
            case MixerFamily.Mamba2:
                WriteMamba2(config, json);
                break;
            case MixerFamily.Softmax:
                WriteSoftmax(config, json);
                break;
            default:
                WriteDelta(config, json);
                break;
        }

        json["initializer_range"] = config.InitializerRange;
        json["tie_word_embeddings"] = config.TieEmbeddings;
        json["bos_token_id"] = config.BeginToken;
        json["eos_token_id"] = config.EndToken;
        json["pad_token_id"] = config.PadToken;
        foreach ((string key, JsonNode? value) in config.OtherKeys ?? [])
        {
            json[key] = value?.DeepClone();
        }

        return JsonFields.Write(json);
    }

    private static string? ClassName(MixerKind mixer) => mixer.ModelType switch
    {
        "delta_net" => "DeltaNetForCausalLM",
        "gated_deltanet" => "GatedDeltaNetForCausalLM",
        "mamba2" => "Mamba2ForCausalLM",
        "transformer" => "TransformerForCausalLM",
        _ => null,
    };

    private static LanguageModelConfig Common(JsonFields fields, MixerKind mixer) => new()
    {
        Mixer = mixer,
        VocabularySize = fields.Int("vocab_size"),
        HiddenSize = fields.Int("hidden_size"),
        Layers = fields.Int("num_hidden_layers"),
        Heads = 0,
        KeyDim = 0,
        ValueDim = 0,
        InitializerRange = fields.Double("initializer_range", 0.02),
        TieEmbeddings = fields.Bool("tie_word_embeddings", false),
        BeginToken = fields.OptionalInt("bos_token_id"),
        EndToken = fields.OptionalInt("eos_token_id"),
        PadToken = fields.OptionalInt("pad_token_id"),
    };

    private static LanguageModelConfig ReadDelta(JsonFields fields, LanguageModelConfig common)
    {
        int heads = fields.Int("num_heads", 4);
        fields.Only("use_beta", "true");
        fields.Only("qk_norm", "\"l2\"");
        fields.Only("qk_activation", "\"silu\"");
        return ReadRecurrent(fields, ReadMlp(fields, common)) with
        {
            Heads = heads,
            KeyDim = HeadWidth(fields, fields.Double("expand_k", 1), common.HiddenSize, heads, "expand_k"),
            ValueDim = HeadWidth(fields, fields.Double("expand_v", 1), common.HiddenSize, heads, "expand_v"),
            OutputGate = fields.Bool("use_gate", false),
        };
    }

    private static LanguageModelConfig ReadGated(JsonFields fields, LanguageModelConfig common)
    {
        int keyHeads = fields.Int("num_heads");
        int keyDim = fields.Int("head_dim");
        return ReadRecurrent(fields, ReadMlp(fields, common)) with
        {
            Heads = fields.Int("num_v_heads", keyHeads),
            KeyHeads = keyHeads,
            KeyDim = keyDim,
            ValueDim = HeadWidth(fields, fields.Double("expand_v", 2), keyDim, 1, "expand_v"),
            OutputGate = fields.Bool("use_gate", true),
        };
    }

    private static LanguageModelConfig ReadRecurrent(JsonFields fields, LanguageModelConfig config)
    {
        fields.Only("use_short_conv", "true");
        fields.Only("conv_bias", "false");
        fields.Only("attn");
        fields.Only("attnres_block_size");
        return config with
        {
            ConvolutionWidth = fields.Int("conv_size", 4),
            DoubleStepSize = fields.Bool("allow_neg_eigval", false),
            NormalizeKeys = fields.Bool("normalize_keys", false),
            ConvolutionInitializerRange = fields.Double("conv_initializer_range", 0),
        };
    }

    private static LanguageModelConfig ReadSoftmax(JsonFields fields, LanguageModelConfig common)
    {
        int heads = fields.Int("num_heads");
        int headDim = fields.Int("head_dim", common.HiddenSize / Math.Max(heads, 1));
        fields.Only("qkv_bias", "false");
        fields.Only("qk_norm", "false");
        fields.Only("window_size");
        fields.Only("rope_scaling");
        return ReadMlp(fields, common) with
        {
            Heads = heads,
            KeyHeads = fields.Int("num_kv_heads", heads),
            KeyDim = headDim,
            ValueDim = headDim,
            RopeTheta = fields.Double("rope_theta", 10_000),
        };
    }

    private static LanguageModelConfig ReadMlp(JsonFields fields, LanguageModelConfig config)
    {
        fields.Only("hidden_act", "\"swish\"", "\"silu\"");
        double ratio = fields.Double("hidden_ratio", DefaultHiddenRatio);
        int width = (int)(config.HiddenSize * ratio * 2 / 3);
        return config with
        {
            InnerSize = fields.Int("intermediate_size", (width + 255) / 256 * 256),
            NormEpsilon = fields.Double("norm_eps", 1e-6),
            MaxPositions = fields.Int("max_position_embeddings", 2048),
        };
    }

    private static LanguageModelConfig ReadMamba2(JsonFields fields, LanguageModelConfig common)
    {
        int heads = fields.Int("num_heads");
        int headDim = fields.Int("head_dim", 64);
        double expand = fields.Double("expand", 2);
        if (expand * common.HiddenSize != (double)heads * headDim)
        {
            throw new InvalidInputException(
                $"In {fields.File}, num_heads x head_dim is {heads} x {headDim}, but expand x hidden_size is {expand} x {common.HiddenSize}; Mamba-2 needs both products equal.");
        }

        int groups = fields.Int("n_groups", 1);
        if (groups > 1 && (fields.Has("rmsnorm") || fields.Has("norm_before_gate") || (fields.Has("norm_eps") && !fields.Has("layer_norm_epsilon"))))
        {
            // The same key, two meanings: the norm of transformers, which is ours, spans all groups.
            throw new InvalidInputException($"In {fields.File}, n_groups is {groups} in the keys of flash-linear-attention, which normalises each group apart; that is not supported, only n_groups = 1 is.");
        }

        fields.Only("hidden_act", "\"silu\"", "\"swish\"");
        fields.Only("use_bias", "false");
        fields.Only("use_conv_bias", "true");
        fields.Only("rms_norm", "true");
        fields.Only("rmsnorm", "true");
        fields.Only("norm_before_gate", "false");
        fields.Only("D_has_hdim", "false");
        fields.Only("time_step_limit", "[0,Infinity]", "[0.0,Infinity]");
        fields.Only("dt_limit", "[0,Infinity]", "[0.0,Infinity]");
        return common with
        {
            Heads = heads,
            KeyHeads = groups,
            KeyDim = fields.Int("state_size", 128),
            ValueDim = headDim,
            ConvolutionWidth = fields.Int("conv_kernel", 4),
            NormEpsilon = Mamba2Epsilon(fields),
            MaxPositions = fields.Int("max_position_embeddings", 2048),
        };
    }

    /// <summary>The norms' epsilon has one name in transformers and another in flash-linear-attention.</summary>
    private static double Mamba2Epsilon(JsonFields fields)
    {
        double? one = fields.OptionalDouble("layer_norm_epsilon"), other = fields.OptionalDouble("norm_eps");
        return one is null || other is null || one == other
            ? one ?? other ?? 1e-5
            : throw new InvalidInputException($"In {fields.File}, layer_norm_epsilon is {one}, but norm_eps, its name in flash-linear-attention, is {other}; make them equal.");
    }

    private static void WriteDelta(LanguageModelConfig config, JsonObject json)
    {
        bool gated = config.Mixer.Family == MixerFamily.Gated;
        json["attn_mode"] = "chunk";
        if (gated)
        {
            json["num_heads"] = config.KeyHeads;
            json["num_v_heads"] = config.Heads;
            json["head_dim"] = config.KeyDim;
            json["expand_v"] = (double)config.ValueDim / config.KeyDim;
        }
        else
        {
            json["num_heads"] = config.Heads;
            json["expand_k"] = (double)config.Heads * config.KeyDim / config.HiddenSize;
            json["expand_v"] = (double)config.Heads * config.ValueDim / config.HiddenSize;
        }

        json["use_gate"] = config.OutputGate;
        json["use_short_conv"] = true;
        json["conv_size"] = config.ConvolutionWidth;
        json["allow_neg_eigval"] = config.DoubleStepSize;
        if (config.Mixer.ModelType == "delta_net")
        {
            json["use_beta"] = true;
            json["qk_norm"] = "l2";
            json["qk_activation"] = "silu";
        }

        if (config.NormalizeKeys)
        {
            json["normalize_keys"] = true;
        }

        if (config.ConvolutionInitializerRange != config.InitializerRange)
        {
            json["conv_initializer_range"] = config.ConvolutionInitializerRange;
        }

        WriteMlp(config, json);
    }

    private static void WriteSoftmax(LanguageModelConfig config, JsonObject json)
    {
        json["num_heads"] = config.Heads;
        json["num_kv_heads"] = config.KeyHeads;
        if (config.Heads * config.KeyDim != config.HiddenSize)
        {
            json["head_dim"] = config.KeyDim;
        }

        json["qkv_bias"] = false;
        json["qk_norm"] = false;
        json["rope_theta"] = config.RopeTheta;
        WriteMlp(config, json);
    }

    private static void WriteMlp(LanguageModelConfig config, JsonObject json)
    {
        json["intermediate_size"] = config.InnerSize;
        json["hidden_ratio"] = DefaultHiddenRatio;
        json["hidden_act"] = "swish";
        json["norm_eps"] = config.NormEpsilon;
        json["max_position_embeddings"] = config.MaxPositions;
    }

    private static void WriteMamba2(LanguageModelConfig config, JsonObject json)
    {
        json["num_heads"] = config.Heads;
        json["head_dim"] = config.ValueDim;
        json["n_groups"] = config.KeyHeads;
        json["state_size"] = config.KeyDim;
        json["expand"] = (double)config.Heads * config.ValueDim / config.HiddenSize;
        json["conv_kernel"] = config.ConvolutionWidth;
        json["use_bias"] = false;
        json["use_conv_bias"] = true;
        json["rms_norm"] = true;
        json["hidden_act"] = "silu";
        json["layer_norm_epsilon"] = config.NormEpsilon;
        if (config.KeyHeads == 1)
        {
            // flash-linear-attention's name for it; with several groups its norm is another, and the key would claim that this one is it.
            json["norm_eps"] = config.NormEpsilon;
        }

        json["max_position_embeddings"] = config.MaxPositions;
    }

    /// <summary>Width of a head from an expansion of some width; rounded, as the quotient may not be exact in binary.</summary>
    private static int HeadWidth(JsonFields fields, double expansion, int width, int heads, string key)
    {
        double exact = expansion * width / Math.Max(heads, 1);
        int rounded = (int)Math.Round(Math.Clamp(exact, 0, int.MaxValue));
        return Math.Abs(exact - rounded) < 1e-6 * Math.Max(1, rounded)
            ? rounded
            : throw new InvalidInputException($"In {fields.File}, '{key}' = {expansion} makes heads of {exact} from a width of {width} in {heads} heads; the width of a head must be whole.");
    }
}
