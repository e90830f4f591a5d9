using System.Numerics;
using ExactFlow.Tensors;
using ExactFlow.Tensors.Randomness;

namespace ExactFlow.Models;

/// <summary>
/// Draws the tokens of one sequence from logits. Deterministic: the n-th token depends on the seed, the sequence's number, n, the logits and the tokens seen,
/// never on what else is generated at the same time.
/// </summary>
public sealed class Sampler
{
    private readonly SamplerOptions options;
    private readonly Philox random;
    private bool[] seen = [];
    private int[] candidates = [];
    private double[] weights = [];
    private ulong drawn;

    /// <summary>Makes a sampler.</summary>
    /// <param name="options">How to draw.</param>
    /// <param name="sequence">Number of the sequence: each has random numbers of its own.</param>
    /// <exception cref="InvalidInputException">An option is out of range.</exception>
    public Sampler(SamplerOptions options, int sequence = 0)
    {
        ArgumentNullException.ThrowIfNull(options);
        this.options = options.Validate();
        random = new Philox(options.Seed, Philox.StreamOf("sampler") + (ulong)sequence);
    }

    /// <summary>Marks tokens as seen, for the repetition penalty: the prompt. Drawn tokens are marked by themselves.</summary>
    public void Observe(ReadOnlySpan<int> tokens)
    {
        if (options.RepetitionPenalty == 1)
        {
            return;
        }

        foreach (int token in tokens)
        {
            if (token >= seen.Length)
            {
                Array.Resize(ref seen, Math.Max(token + 1, 2 * seen.Length));
            }

            seen[token] = true;
        }
    }

    /// <summary>Draws the next token.</summary>
    /// <param name="logits">One per token of the vocabulary.</param>
    /// <exception cref="InvalidInputException">There are none, or one is NaN or positive infinity: the model has diverged.</exception>
    public int Next(ReadOnlySpan<float> logits)
    {
        Check(logits);
        int token = options.Temperature == 0 ? MostLikely(logits) : Draw(logits);
        Observe([token]);
        return token;
    }

    private static void Check(ReadOnlySpan<float> logits)
    {
        if (logits.IsEmpty)
        {
            throw new InvalidInputException("A token was to be drawn from no logits; the vocabulary must have a token.");
        }

        foreach (float logit in logits)
        {
            if (!(logit < float.PositiveInfinity))
            {
                throw new InvalidInputException($"A token was to be drawn, but the model's logits contain {logit}: its weights are damaged or its training diverged.");
            }
        }
    }

    private int MostLikely(ReadOnlySpan<float> logits)
    {
        int best = 0;
        double highest = double.NegativeInfinity;
        for (int i = 0; i < logits.Length; i++)
        {
            double logit = Penalized(logits[i], i);
            if (logit > highest)
            {
                highest = logit;
                best = i;
            }
        }

        return best;
    }

    private int Draw(ReadOnlySpan<float> logits)
    {
        int count = Weigh(logits);
        if (options.TopK > 0 || options.TopP < 1)
        {
            count = KeepNucleus(count);
        }

        count = KeepAbove(count, options.MinP * Largest(count));
        return Pick(count);
    }

    /// <summary>Fills the candidates with every token that has a chance, weighted relative to the most likely one. Returns how many there are.</summary>
    private int Weigh(ReadOnlySpan<float> logits)
    {
        if (weights.Length < logits.Length)
        {
            weights = new double[logits.Length];
            candidates = new int[logits.Length];
        }

        double highest = double.NegativeInfinity;
        for (int i = 0; i < logits.Length; i++)
        {
            weights[i] = Penalized(logits[i], i);
            candidates[i] = i;
            highest = Math.Max(highest, weights[i]);
        }

        if (double.IsNegativeInfinity(highest))
        {
            throw new InvalidInputException("A token was to be drawn, but every logit is negative infinity: no token is possible.");
        }

        Exponentiate(weights.AsSpan(0, logits.Length), highest);
        return logits.Length;
    }

    /// <summary>e^((weight - highest) / temperature): most of the time that drawing takes.</summary>
    private void Exponentiate(Span<double> span, double highest)
    {
        var origin = new Vector<double>(highest);
        var factor = new Vector<double>(1 / options.Temperature);
        int i = 0;
        for (; i + Vector<double>.Count <= span.Length; i += Vector<double>.Count)
        {
            Vector.Exp((new Vector<double>(span[i..]) - origin) * factor).CopyTo(span[i..]);
        }

        for (; i < span.Length; i++)
        {
            span[i] = Math.Exp((span[i] - highest) * factor[0]);
        }
    }

    /// <summary>Sorts the candidates by falling weight (equal ones by token) and applies top-k, then top-p to what is left.</summary>
    private int KeepNucleus(int count)
    {
        double total = Sum(count);
        if (options.TopK == 0)
        {
            // Together, tokens lighter than this weigh less than 1 - top-p: the rest holds the nucleus, and sorting it is cheap.
            count = KeepAbove(count, (1 - options.TopP) * total / count);
        }

        SortByWeight(count);
        if (options.TopK > 0)
        {
            count = Math.Min(count, options.TopK);
            total = Sum(count);
        }

        double kept = 0;
        int size = 0;
        while (size < count && kept < options.TopP * total)
        {
            kept += weights[size++];
        }

        return size;
    }

    private void SortByWeight(int count)
    {
        // Negated, an ascending sort puts the heaviest first; keys are made unique by sorting equal runs by token after it.
        for (int i = 0; i < count; i++)
        {
            weights[i] = -weights[i];
        }

        Array.Sort(weights, candidates, 0, count);
        for (int start = 0, end; start < count; start = end)
        {
            end = start + 1;
            while (end < count && weights[end] == weights[start])
            {
                end++;
            }

            Array.Sort(candidates, start, end - start);
        }

        for (int i = 0; i < count; i++)
        {
            weights[i] = -weights[i];
        }
    }

    /// <summary>Drops candidates lighter than a threshold, keeping their order.</summary>
    private int KeepAbove(int count, double threshold)
    {
        if (threshold <= 0)
        {
            return count;
        }

        int kept = 0;
        for (int i = 0; i < count; i++)
        {
            if (weights[i] >= threshold)
            {
                weights[kept] = weights[i];
                candidates[kept++] = candidates[i];
            }
        }

        return kept;
    }

    private int Pick(int count)
    {
        double rest = random.Uniform(drawn++) * Sum(count);
        for (int i = 0; i < count; i++)
        {
            rest -= weights[i];
            if (rest < 0)
            {
                return candidates[i];
            }
        }

        // Rounding left a crumb: the last token with any weight.
        while (weights[count - 1] == 0)
        {
            count--;
        }

        return candidates[count - 1];
    }

    private double Sum(int count)
    {
        double sum = 0;
        for (int i = 0; i < count; i++)
        {
            sum += weights[i];
        }

        return sum;
    }

    private double Largest(int count)
    {
        double largest = 0;
        for (int i = 0; i < count; i++)
        {
            largest = Math.Max(largest, weights[i]);
        }

        return largest;
    }

    private double Penalized(float logit, int token)
    {
        if (token >= seen.Length || !seen[token])
        {
            return logit;
        }

        return logit > 0 ? logit / options.RepetitionPenalty : logit * options.RepetitionPenalty;
    }
}
