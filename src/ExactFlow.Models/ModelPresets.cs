using ExactFlow.Tensors;

namespace ExactFlow.Models;

/// <summary>Named model sizes, for every mixer.</summary>
public static class ModelPresets
{
    private static readonly Preset[] Presets =
    [
        new("tiny", 32, 2, 2),
        new("compare", 256, 4, 4),
        new("60m", 512, 12, 4),
        new("340m", 1024, 24, 8),
        new("1.3b", 2048, 24, 16),
    ];

    /// <summary>The names, smallest first.</summary>
    public static IReadOnlyList<string> Names { get; } = [.. Presets.Select(preset => preset.Name)];

    /// <summary>
    /// The configuration of a named size: <c>tiny</c> (tests), <c>compare</c> (hidden 256, 4 layers), <c>60m</c> (hidden 512, 12 layers),
    /// <c>340m</c> and <c>1.3b</c> (the sizes of the paper's Table 1).
    /// </summary>
    /// <exception cref="InvalidInputException">No preset has that name; the sentence lists them.</exception>
    public static LanguageModelConfig Create(string name, MixerKind mixer, int vocabularySize)
    {
        foreach (Preset preset in Presets)
        {
            if (preset.Name == name)
            {
                return LanguageModelConfig.Create(mixer, vocabularySize, preset.HiddenSize, preset.Layers, preset.Heads).Validate();
            }
        }

        throw new InvalidInputException($"There is no model size '{name}'; use one of {string.Join(", ", Names)}.");
    }

    private readonly record struct Preset(string Name, int HiddenSize, int Layers, int Heads);
}
