using ExactFlow.Tensors;

namespace ExactFlow.Models;

/// <summary>How the next token is drawn. The filters apply in the order of the properties, each to what the one before left.</summary>
public sealed record SamplerOptions
{
    /// <summary>Always the most likely token.</summary>
    public static SamplerOptions Greedy { get; } = new() { Temperature = 0 };

    /// <summary>Logits of tokens seen before are divided by it where positive and multiplied where negative (CTRL, arXiv 1909.05858); 1 does nothing.</summary>
    public double RepetitionPenalty { get; init; } = 1;

    /// <summary>Divides the logits; 0 takes the most likely token (the first of equals), without randomness.</summary>
    public double Temperature { get; init; } = 1;

    /// <summary>Keeps this many of the most likely tokens; 0 keeps all.</summary>
    public int TopK { get; init; }

    /// <summary>Keeps the smallest set of most likely tokens with at least this much probability (nucleus sampling, arXiv 1904.09751); 1 keeps all.</summary>
    public double TopP { get; init; } = 1;

    /// <summary>Keeps tokens at least this fraction as likely as the most likely one (arXiv 2407.01082); 0 keeps all.</summary>
    public double MinP { get; init; }

    /// <summary>Seed of the random numbers: same seed, same logits, same tokens.</summary>
    public ulong Seed { get; init; } = 42;

    /// <summary>Checks the ranges. Returns the options.</summary>
    /// <exception cref="InvalidInputException">A value is out of range; the sentence says which.</exception>
    public SamplerOptions Validate()
    {
        Require(double.IsFinite(RepetitionPenalty) && RepetitionPenalty > 0, "repetition penalty", RepetitionPenalty, "above 0 (1 for none)");
        Require(double.IsFinite(Temperature) && Temperature >= 0, "temperature", Temperature, "0 (greedy) or above");
        Require(TopK >= 0, "top-k", TopK, "0 (all) or above");
        Require(TopP is > 0 and <= 1, "top-p", TopP, "above 0 and at most 1 (all)");
        Require(MinP is >= 0 and <= 1, "min-p", MinP, "from 0 (all) to 1");
        return this;
    }

    private static void Require<T>(bool holds, string name, T value, string expected)
    {
        if (!holds)
        {
            throw new InvalidInputException($"Sampling was asked for with a {name} of {value}, which must be {expected}.");
        }
    }
}
