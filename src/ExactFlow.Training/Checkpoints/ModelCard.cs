using System.Globalization;
using System.Text;
using ExactFlow.Models;
using ExactFlow.Training.Options;
using ExactFlow.Training.Runs;

namespace ExactFlow.Training.Checkpoints;

/// <summary>The README.md of an exported model: what it is, what it was trained on and how well that went, and what made it.</summary>
public static class ModelCard
{
    /// <summary>The file's name.</summary>
    public const string FileName = "README.md";

    private const string Rule = "rule";

    /// <summary>Writes the card of a model.</summary>
    /// <param name="model">The model.</param>
    /// <param name="source">The folder it comes from: a checkpoint, whose state is told, or another model folder, whose card is kept.</param>
    /// <param name="format">Number format of the weights, in words.</param>
    /// <param name="command">The command that exports it.</param>
    /// <returns>Markdown.</returns>
    public static string Write(LanguageModel model, string source, string format, string command)
    {
        ArgumentNullException.ThrowIfNull(model);
        string existing = Path.Combine(source, FileName);
        var card = new StringBuilder();
        if (File.Exists(existing))
        {
            string text = File.ReadAllText(existing).TrimEnd();
            card.Append(text).Append("\n\n## Conversion\n\n");
            if (!text.Contains(RuleRow(model), StringComparison.Ordinal))
            {
                Describe(card, model);
            }
        }
        else
        {
            card.Append(CultureInfo.InvariantCulture, $"# {model.Config.Mixer} language model, {model.ParameterCount / 1e6:0.0}M parameters\n\n");
            Describe(card, model);
            card.Append("## Training\n\n");
            if (File.Exists(Path.Combine(source, TrainingState.FileName)))
            {
                Describe(card, TrainingState.Load(source));
            }
            else
            {
                card.Append("Text, tokens and losses are not known: the folder that these weights come from says nothing about them.\n\n");
            }

            card.Append("## Export\n\n");
        }

        card.Append(CultureInfo.InvariantCulture, $"Weights in {format}, written by ExactFlow{(MachineDescription.Commit() is { } commit ? $" at commit `{commit}`" : "")}:\n\n```sh\n{command}\n```\n");
        return card.ToString();
    }

    private static void Describe(StringBuilder card, LanguageModel model)
    {
        LanguageModelConfig config = model.Config;
        Table(card, [
            (Rule, config.Mixer.ToString()),
            ("parameters", Count(model.ParameterCount)),
            ("layers, hidden, heads", $"{config.Layers}, {config.HiddenSize}, {config.Heads} (keys of {config.KeyDim}, values of {config.ValueDim})"),
            ("width within the MLP", config.Mixer.Family == MixerFamily.Mamba2 ? "no MLP" : Count(config.InnerSize)),
            ("vocabulary", Count(config.VocabularySize) + (config.TieEmbeddings ? ", one table for embeddings and head" : "")),
        ]);
    }

    /// <summary>The row by which a card of ours is known, whatever was written around it.</summary>
    private static string RuleRow(LanguageModel model) => $"| {Rule} | {model.Config.Mixer} |";

    private static void Describe(StringBuilder card, TrainingState state)
    {
        TrainingOptions options = OptionsJson.Read<TrainingOptions>(state.Options.ToJsonString(), "the recipe of the checkpoint", []);
        DataOptions data = options.Data;
        long tokens = (long)state.Step * data.BatchSize * data.Accumulation * data.SequenceLength;
        string text = data.Packed is { } packed ? $"packed corpus `{packed}`" : data.Text.Length > 0 ? string.Join(", ", data.Text.Select(path => $"`{path}`")) : "English prose of the .NET reference documentation";
        int sequences = data.BatchSize * data.Accumulation;
        Table(card, [
            ("text", text),
            ("packing", data.Packing == "documents" ? "documents apart" : "one stream"),
            ("steps", $"{Count(state.Step)} of {Count(options.Steps)}, seed {options.Seed}"),
            ("tokens", $"{Count(tokens)} ({sequences} sequence{(sequences == 1 ? "" : "s")} of {data.SequenceLength} a step)"),
            ("learning rate", $"{options.Optimizer.LearningRate.ToString(CultureInfo.InvariantCulture)} at most, AdamW"),
            ("validation loss", Loss(state.ValidationLoss)),
            ("best validation loss", state.BestStep is { } step ? $"{Loss(state.BestValidationLoss)} after step {Count(step)}" : Loss(state.BestValidationLoss)),
        ]);
        card.Append("All settings; with these in `recipe.json` and the same text, `exactflow train --config recipe.json` trains it again:\n\n```json\n").Append(OptionsJson.Write(options).TrimEnd()).Append("\n```\n\n");
    }

    private static void Table(StringBuilder card, IEnumerable<(string Name, string Value)> rows)
    {
        card.Append("| | |\n|---|---|\n");
        foreach ((string name, string value) in rows)
        {
            card.Append(CultureInfo.InvariantCulture, $"| {name} | {value} |\n");
        }

        card.Append('\n');
    }

    private static string Count(long value) => value.ToString("#,0", CultureInfo.InvariantCulture);

    private static string Loss(double? nats)
        => nats is { } value ? string.Create(CultureInfo.InvariantCulture, $"{value:0.0000} nats per token, perplexity {Math.Exp(value):0.00}") : "not measured";
}
