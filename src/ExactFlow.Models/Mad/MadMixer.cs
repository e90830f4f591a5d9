using ExactFlow.Tensors;

namespace ExactFlow.Models.Mad;

/// <summary>A mixer as experiments name it: every <see cref="MixerKind"/>, and variants of some that answer a question.</summary>
/// <param name="Name">Name, as given to <c>--mixers</c>.</param>
/// <param name="Kind">What mixes tokens.</param>
/// <param name="DoubleStepSize">Whether the step size reaches 2, which gives the delta rule negative eigenvalues (arXiv 2411.12537).</param>
/// <param name="NormalizeKeys">Whether keys are brought to unit length before a rule that takes them raw.</param>
public sealed record MadMixer(string Name, MixerKind Kind, bool DoubleStepSize = false, bool NormalizeKeys = false)
{
    /// <summary>All of them: the kinds, then the variants.</summary>
    public static IReadOnlyList<MadMixer> All { get; } =
    [
        .. MixerKind.All.Select(kind => new MadMixer(NameOf(kind), kind)),
        new("deltanet_negative", MixerKind.Parse("deltanet"), DoubleStepSize: true),
        new("gated_deltanet_negative", MixerKind.Parse("gated_deltanet"), DoubleStepSize: true),
        new("efla_unit_keys", MixerKind.Parse("efla"), NormalizeKeys: true),
        new("cayley_unit_keys", MixerKind.Parse("cayley"), NormalizeKeys: true),
    ];

    /// <summary>The mixer of a name.</summary>
    /// <exception cref="InvalidInputException">No mixer has that name; the sentence lists them.</exception>
    public static MadMixer Parse(string name)
        => All.FirstOrDefault(mixer => mixer.Name == name) ?? throw new InvalidInputException($"There is no mixer '{name}'; use one of {string.Join(", ", All.Select(mixer => mixer.Name))}.");

    /// <inheritdoc/>
    public override string ToString() => Name;

    private static string NameOf(MixerKind kind) => kind == MixerKind.SoftmaxAttention ? "softmax" : kind.Name;
}
