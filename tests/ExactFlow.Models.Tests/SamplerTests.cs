using ExactFlow.Tensors;

namespace ExactFlow.Models.Tests;

/// <summary>Distributions with known answers.</summary>
public sealed class SamplerTests
{
    /// <summary>Probabilities 0.5, 0.25, 0.15, 0.07, 0.03 in a mixed order: tokens 2, 0, 4, 1, 3.</summary>
    private static readonly double[] Probabilities = [0.25, 0.07, 0.5, 0.03, 0.15];

    private static readonly float[] Logits = [.. Probabilities.Select(p => (float)Math.Log(p) + 3)];

    public static TheoryData<string, SamplerOptions, double[]> Distributions => new()
    {
        { "plain", new(), Probabilities },
        { "temperature 2", new() { Temperature = 2 }, Normalized(p => Math.Sqrt(p)) },
        { "temperature 0.5", new() { Temperature = 0.5 }, Normalized(p => p * p) },
        { "top-k 2", new() { TopK = 2 }, [0.25 / 0.75, 0, 0.5 / 0.75, 0, 0] },
        { "top-k above the vocabulary", new() { TopK = 50 }, Probabilities },
        { "top-p 0.7", new() { TopP = 0.7 }, [0.25 / 0.75, 0, 0.5 / 0.75, 0, 0] },
        { "top-p 0.76", new() { TopP = 0.76 }, [0.25 / 0.9, 0, 0.5 / 0.9, 0, 0.15 / 0.9] },
        { "top-p that keeps one", new() { TopP = 0.1 }, [0, 0, 1, 0, 0] },
        { "top-p of top-k 3", new() { TopK = 3, TopP = 0.8 }, [0.25 / 0.75, 0, 0.5 / 0.75, 0, 0] },
        { "min-p 0.2", new() { MinP = 0.2 }, [0.25 / 0.9, 0, 0.5 / 0.9, 0, 0.15 / 0.9] },
        { "min-p 1", new() { MinP = 1 }, [0, 0, 1, 0, 0] },
        { "top-p after temperature", new() { Temperature = 0.5, TopP = 0.72 }, [0, 0, 1, 0, 0] },
        { "all together", new() { Temperature = 2, TopK = 4, TopP = 0.85, MinP = 0.6 }, Renormalized(Math.Sqrt(0.25), 0, Math.Sqrt(0.5), 0, 0) },
    };

    [Theory]
    [MemberData(nameof(Distributions))]
    public void Tokens_come_with_their_probabilities(string name, SamplerOptions options, double[] expected)
    {
        const int Draws = 100_000;
        var sampler = new Sampler(options);
        var counts = new int[expected.Length];
        for (int i = 0; i < Draws; i++)
        {
            counts[sampler.Next(Logits)]++;
        }

        for (int token = 0; token < expected.Length; token++)
        {
            // Five standard deviations of a binomial share: once in a million that a right sampler fails, and the seed is fixed.
            double spread = 5 * Math.Sqrt(expected[token] * (1 - expected[token]) / Draws);
            Assert.True(Math.Abs(((double)counts[token] / Draws) - expected[token]) <= spread, $"{name}: token {token} came {counts[token]} times of {Draws}, expected {expected[token]}");
        }
    }

    [Fact]
    public void Greedy_takes_the_largest_and_the_first_of_equals()
    {
        var sampler = new Sampler(SamplerOptions.Greedy);
        Assert.Equal(2, sampler.Next(Logits));
        Assert.Equal(1, sampler.Next([-1, 4, 4, 0]));
        Assert.Equal(1, sampler.Next([float.NegativeInfinity, -100]));
    }

    [Fact]
    public void Equal_tokens_are_cut_by_number()
    {
        var sampler = new Sampler(new SamplerOptions { TopK = 2 });
        var drawn = new HashSet<int>();
        for (int i = 0; i < 100; i++)
        {
            drawn.Add(sampler.Next([1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1]));
        }

        Assert.Equal([0, 1], drawn.Order());
    }

    [Fact]
    public void The_repetition_penalty_divides_positive_logits_and_multiplies_negative_ones()
    {
        var sampler = new Sampler(SamplerOptions.Greedy with { RepetitionPenalty = 2 });
        Assert.Equal(0, sampler.Next([3, 2, -1]));
        Assert.Equal(1, sampler.Next([3, 2, -1]));
        Assert.Equal(0, sampler.Next([3, 2, -1]));

        // Tokens 0 and 1 were drawn: 1.5 and 1 now; token 2, seen in the prompt, falls from -1 to -2.
        sampler.Observe([2]);
        Assert.Equal(3, sampler.Next([-1, -1, -1, -1.9f]));
    }

    [Fact]
    public void The_same_seed_gives_the_same_tokens_and_others_give_others()
    {
        var logits = new float[1000];
        int[] first = Draw(new SamplerOptions { Seed = 7 }, 0);
        Assert.Equal(first, Draw(new SamplerOptions { Seed = 7 }, 0));
        Assert.NotEqual(first, Draw(new SamplerOptions { Seed = 8 }, 0));
        Assert.NotEqual(first, Draw(new SamplerOptions { Seed = 7 }, 1));

        int[] Draw(SamplerOptions options, int sequence)
        {
            var sampler = new Sampler(options, sequence);
            return [.. Enumerable.Range(0, 50).Select(_ => sampler.Next(logits))];
        }
    }

    [Fact]
    public void The_nucleus_of_a_large_vocabulary_is_exact()
    {
        // Zipf over 20,000 tokens, shuffled by a multiplication: token (7919 rank) mod 20,000 has weight 1 / (rank + 1).
        const int Size = 20_000;
        var logits = new float[Size];
        double total = 0;
        for (int rank = 0; rank < Size; rank++)
        {
            logits[7919 * rank % Size] = -(float)Math.Log(rank + 1);
            total += 1.0 / (rank + 1);
        }

        double kept = 0;
        int nucleus = 0;
        while (kept < 0.5 * total)
        {
            kept += 1.0 / ++nucleus;
        }

        var sampler = new Sampler(new SamplerOptions { TopP = 0.5 });
        var ranks = new Dictionary<int, int>();
        for (int rank = 0; rank < Size; rank++)
        {
            ranks[7919 * rank % Size] = rank;
        }

        int largest = 0;
        for (int i = 0; i < 500; i++)
        {
            largest = Math.Max(largest, ranks[sampler.Next(logits)]);
        }

        Assert.InRange(largest, nucleus / 2, nucleus - 1);
    }

    [Fact]
    public void Impossible_logits_are_refused()
    {
        var sampler = new Sampler(new SamplerOptions());
        Assert.Throws<InvalidInputException>(() => sampler.Next([]));
        Assert.Contains("NaN", Assert.Throws<InvalidInputException>(() => sampler.Next([0, float.NaN])).Message, StringComparison.Ordinal);
        Assert.Throws<InvalidInputException>(() => sampler.Next([0, float.PositiveInfinity]));
        Assert.Throws<InvalidInputException>(() => sampler.Next([float.NegativeInfinity, float.NegativeInfinity]));
        Assert.Equal(1, sampler.Next([float.NegativeInfinity, -1000]));
    }

    [Theory]
    [InlineData("temperature")]
    [InlineData("top-k")]
    [InlineData("top-p")]
    [InlineData("min-p")]
    [InlineData("repetition penalty")]
    public void Options_out_of_range_are_refused(string name)
    {
        SamplerOptions options = name switch
        {
            "temperature" => new() { Temperature = double.NaN },
            "top-k" => new() { TopK = -1 },
            "top-p" => new() { TopP = 0 },
            "min-p" => new() { MinP = 1.5 },
            _ => new() { RepetitionPenalty = 0 },
        };
        Assert.Contains(name, Assert.Throws<InvalidInputException>(() => new Sampler(options)).Message, StringComparison.Ordinal);
    }

    private static double[] Normalized(Func<double, double> weight) => Renormalized([.. Probabilities.Select(weight)]);

    private static double[] Renormalized(params double[] weights) => [.. weights.Select(weight => weight / weights.Sum())];
}
