using ExactFlow.Tensors;

namespace ExactFlow.Models;

/// <summary>How far to generate, and how to draw.</summary>
public sealed record GenerationOptions
{
    /// <summary>Most tokens to generate per sequence.</summary>
    public int MaxTokens { get; init; } = 256;

    /// <summary>Tokens that end a sequence; the one that did is the sequence's last token.</summary>
    public IReadOnlyList<int> StopTokens { get; init; } = [];

    /// <summary>How tokens are drawn.</summary>
    public SamplerOptions Sampling { get; init; } = new();

    /// <summary>Tokens of a prompt read at once: bounds the memory that reading takes. Softmax attention reads prompts whole.</summary>
    public int PrefillLength { get; init; } = 1024;

    /// <summary>Checks the ranges. Returns the options.</summary>
    /// <exception cref="InvalidInputException">A value is out of range.</exception>
    public GenerationOptions Validate()
    {
        if (MaxTokens < 0)
        {
            throw new InvalidInputException($"At most {MaxTokens} tokens were to be generated; the number must be 0 or more.");
        }

        if (PrefillLength < 1)
        {
            throw new InvalidInputException($"Prompts were to be read {PrefillLength} tokens at a time; the number must be 1 or more.");
        }

        Sampling.Validate();
        return this;
    }
}
