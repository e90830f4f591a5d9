using ExactFlow.Operators;
using ExactFlow.Tensors;

namespace ExactFlow.Models;

/// <summary>
/// What mixes tokens in a model: a rule of the delta family (every <see cref="DeltaRuleKind"/>), Mamba-2, or softmax attention.
/// Adding a rule to the family adds its mixer: nothing here lists rules.
/// </summary>
public sealed class MixerKind
{
    private MixerKind(string name, string modelType, MixerFamily family, DeltaRuleKind? rule)
    {
        Name = name;
        ModelType = modelType;
        Family = family;
        Rule = rule;
    }

    /// <summary>Causal softmax attention with rotary positions: the Transformer baseline.</summary>
    public static MixerKind SoftmaxAttention { get; } = new("softmax_attention", "transformer", MixerFamily.Softmax, null);

    /// <summary>Every mixer, the rules in the order of <see cref="DeltaRuleKind.All"/>, softmax attention last.</summary>
    public static IReadOnlyList<MixerKind> All { get; } = [.. DeltaRuleKind.All.Select(OfRule), SoftmaxAttention];

    /// <summary>Name on the command line and in recipes: the rule's name, or <c>softmax_attention</c>.</summary>
    public string Name { get; }

    /// <summary>
    /// <c>model_type</c> in config.json. Only rules that others implement under the same tensor names bear others' type names: the same tensors of
    /// another rule would load there without complaint and compute something else.
    /// </summary>
    public string ModelType { get; }

    /// <summary>Which layer it is built as.</summary>
    public MixerFamily Family { get; }

    /// <summary>The recurrence's rule; null for softmax attention.</summary>
    public DeltaRuleKind? Rule { get; }

    /// <summary>The mixer of a name.</summary>
    /// <exception cref="InvalidInputException">No mixer has that name; the sentence lists them.</exception>
    public static MixerKind Parse(string name)
        => All.FirstOrDefault(kind => kind.Name == name)
            ?? throw new InvalidInputException($"There is no mixer '{name}'; use one of {string.Join(", ", All.Select(kind => kind.Name))}.");

    /// <summary>The mixer of a config.json's <c>model_type</c>.</summary>
    /// <param name="modelType">The value of the key.</param>
    /// <param name="file">The file, for the message.</param>
    /// <exception cref="InvalidInputException">No mixer has that type; the sentence lists them.</exception>
    public static MixerKind OfModelType(string modelType, string file = ModelFolder.ConfigFile)
        => All.FirstOrDefault(kind => kind.ModelType == modelType)
            ?? throw new InvalidInputException($"In {file}, model_type is '{modelType}', but models of these types are built here: {string.Join(", ", All.Select(kind => kind.ModelType))}; use one of them.");

    /// <inheritdoc/>
    public override string ToString() => Name;

    private static MixerKind OfRule(DeltaRuleKind rule)
    {
        if (rule.Name == "mamba2")
        {
            return new MixerKind(rule.Name, "mamba2", MixerFamily.Mamba2, rule);
        }

        string modelType = rule == DeltaRuleKind.DeltaNet ? "delta_net" : rule.Name;
        return new MixerKind(rule.Name, modelType, rule.Decays ? MixerFamily.Gated : MixerFamily.Delta, rule);
    }
}

/// <summary>The layers that mixers are built as; each has its own keys in config.json.</summary>
public enum MixerFamily
{
    /// <summary>Query, key and value through short convolutions, a step size per head, one recurrence.</summary>
    Delta,

    /// <summary>The same with a learned decay per head and an output gate.</summary>
    Gated,

    /// <summary>Mamba-2: one projection for all, gate before the norm, no separate MLP.</summary>
    Mamba2,

    /// <summary>Softmax attention with rotary positions.</summary>
    Softmax,
}
