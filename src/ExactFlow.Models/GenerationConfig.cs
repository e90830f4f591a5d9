using System.Text.Json.Nodes;
using ExactFlow.Tensors;

namespace ExactFlow.Models;

/// <summary><see cref="GenerationOptions"/> as generation_config.json, with Hugging Face's keys and their meaning there.</summary>
public static class GenerationConfig
{
    /// <summary>Reads a generation_config.json. Keys that mean nothing here are ignored; without <c>do_sample</c>, generation is greedy.</summary>
    /// <exception cref="InvalidInputException">Not JSON, a key of the wrong kind, or a value out of range.</exception>
    public static GenerationOptions FromJson(string json, string file = ModelFolder.GenerationFile)
    {
        var fields = JsonFields.Parse(json, file);
        bool draws = fields.Bool("do_sample", false);
        var defaults = new GenerationOptions();
        var sampling = new SamplerOptions
        {
            RepetitionPenalty = fields.Double("repetition_penalty", 1),
            Temperature = draws ? fields.Double("temperature", 1) : 0,
            TopK = fields.Int("top_k", draws ? 50 : 0),
            TopP = fields.Double("top_p", 1),
            MinP = fields.Double("min_p", 0),
        };
        return (defaults with
        {
            MaxTokens = fields.Int("max_new_tokens", defaults.MaxTokens),
            StopTokens = fields.Ints("eos_token_id"),
            Sampling = sampling,
        }).Validate();
    }

    /// <summary>The text of a generation_config.json.</summary>
    /// <param name="options">How to generate.</param>
    /// <param name="config">The model's configuration, for its begin, end and padding tokens.</param>
    public static string ToJson(GenerationOptions options, LanguageModelConfig config)
    {
        ArgumentNullException.ThrowIfNull(options);
        ArgumentNullException.ThrowIfNull(config);
        SamplerOptions sampling = options.Sampling;
        var json = new JsonObject
        {
            ["bos_token_id"] = config.BeginToken,
            ["eos_token_id"] = EndTokens(options, config),
            ["pad_token_id"] = config.PadToken,
            ["max_new_tokens"] = options.MaxTokens,
            ["do_sample"] = sampling.Temperature > 0,
            ["repetition_penalty"] = sampling.RepetitionPenalty,
        };
        if (sampling.Temperature > 0)
        {
            json["temperature"] = sampling.Temperature;
            json["top_k"] = sampling.TopK;
            json["top_p"] = sampling.TopP;
            json["min_p"] = sampling.MinP;
        }

        return JsonFields.Write(json);
    }

    private static JsonNode? EndTokens(GenerationOptions options, LanguageModelConfig config) => options.StopTokens.Count switch
    {
        0 => config.EndToken,
        1 => options.StopTokens[0],
        _ => new JsonArray([.. options.StopTokens.Select(token => (JsonNode)token)]),
    };
}
