using ExactFlow.Tensors;
using ExactFlow.Training.Experiments.Mad;
using ExactFlow.Training.Experiments.Mad.Tasks;

namespace ExactFlow.Training.Tests.Experiments.Mad;

/// <summary>
/// What the tasks' examples consist of, against what can be computed: frequencies lie within 4.5 standard deviations of their expectation (two in a hundred
/// thousand tests would fail by chance; the numbers are fixed, so none does), and what must always hold is looked for in every example.
/// </summary>
public sealed class MadTaskTests
{
    private const int Examples = 2000;
    private const int Ignored = MadTask.Ignored;

    public static TheoryData<string> Names => [.. MadTaskKind.All.Select(task => task.Name)];

    [Theory]
    [MemberData(nameof(Names))]
    public void An_example_is_a_function_of_split_seed_and_index(string name)
    {
        MadTask task = MadTaskKind.Parse(name).Create(MadTaskKind.Parse(name).Baseline);
        MadExamples many = MadExamples.Generate(task, MadSplit.Train, 7, 40), few = MadExamples.Generate(task, MadSplit.Train, 7, 5);
        Assert.Equal(few.Inputs, many.Inputs[..few.Inputs.Length]);
        Assert.Equal(few.Targets, many.Targets[..few.Targets.Length]);
        Assert.NotEqual(few.Inputs, MadExamples.Generate(task, MadSplit.Train, 8, 5).Inputs);
        Assert.NotEqual(few.Inputs, MadExamples.Generate(task, MadSplit.Test, 7, 5).Inputs);
        Assert.NotEqual(many.Inputs[..task.InputLength], many.Inputs[task.InputLength..(2 * task.InputLength)]);
        Assert.All(many.Inputs, token => Assert.InRange(token, 0, task.Settings.Vocabulary - 1));
        Assert.All(many.Targets, target => Assert.True(target == Ignored || (target >= 0 && target < task.Settings.Vocabulary)));
    }

    [Theory]
    [MemberData(nameof(Names))]
    public void Every_setting_of_the_paper_can_be_made(string name)
    {
        MadTaskKind kind = MadTaskKind.Parse(name);
        foreach (MadSettings settings in kind.Changes.Append(kind.Baseline))
        {
            MadTask task = kind.Create(settings);
            foreach (MadSplit split in (MadSplit[])[MadSplit.Train, MadSplit.Test])
            {
                MadExamples examples = MadExamples.Generate(task, split, 1, 3);
                Assert.Contains(examples.Targets, target => target != Ignored);
            }
        }

        Assert.Equal(kind.Changes.Count, kind.Changes.Select(settings => settings.DifferenceTo(kind.Baseline)).Distinct().Count());
    }

    [Fact]
    public void Recall_asks_for_values_of_keys_seen_before_and_ends_with_one()
    {
        (int[][] inputs, int[][] targets) = Make("in_context_recall", MadSplit.Test);
        int repeated = 0, keys = 0;
        var counts = new int[16];
        for (int e = 0; e < Examples; e++)
        {
            var values = new Dictionary<int, int>();
            for (int i = 0; i < 127; i += 2)
            {
                int key = inputs[e][i];
                Assert.InRange(key, 0, 7);
                counts[key]++;
                bool isKnown = values.TryGetValue(key, out int value);
                Assert.Equal(isKnown ? value : Ignored, targets[e][i]);
                if (i + 1 < 127)
                {
                    Assert.Equal(Ignored, targets[e][i + 1]);
                    Assert.InRange(inputs[e][i + 1], 8, 15);
                    Assert.True(!isKnown || inputs[e][i + 1] == value);
                    values[key] = inputs[e][i + 1];
                    repeated += isKnown ? 1 : 0;
                    keys++;
                }
                else
                {
                    Assert.True(isKnown);
                }
            }
        }

        // A key of 63 was not there before with probability (7/8)^i: the expected number of first occurrences is 8 (1 - (7/8)^63).
        double first = 8 * (1 - Math.Pow(7.0 / 8, 63));
        Assert.Equal(63 - first, (double)repeated / Examples, 4.5 * Math.Sqrt(first / Examples));
        Near(counts[0], keys + Examples, 1.0 / 8);
    }

    [Fact]
    public void Recall_in_training_asks_for_the_whole_sequence()
    {
        (int[][] inputs, int[][] targets) = Make("in_context_recall", MadSplit.Train);
        for (int e = 0; e < 50; e++)
        {
            Assert.Equal(inputs[e][1..], targets[e][..^1]);
            Assert.NotEqual(Ignored, targets[e][^1]);
        }
    }

    [Theory]
    [InlineData(0.2)]
    [InlineData(0.8)]
    public void Noise_takes_the_place_of_pairs_as_often_as_asked(double noise)
    {
        MadSettings settings = MadTaskKind.Parse("noisy_recall").Baseline with { Noise = noise };
        (int[][] inputs, int[][] targets) = Make("noisy_recall", MadSplit.Test, settings);
        int noisy = 0;
        for (int e = 0; e < Examples; e++)
        {
            int real = 0;
            for (int i = 0; i < 126; i += 2)
            {
                bool isNoise = inputs[e][i] >= 16;
                Assert.Equal(isNoise, inputs[e][i + 1] >= 16);
                Assert.True(!isNoise || (targets[e][i] == Ignored && targets[e][i + 1] == Ignored));
                noisy += isNoise ? 1 : 0;
                real += isNoise ? 0 : 1;
            }

            Assert.True(real >= 1);
            Assert.InRange(inputs[e][126], 0, 7);
            Assert.InRange(targets[e][126], 8, 15);
        }

        // Of 63 pairs one is kept.
        Near(noisy, Examples * 62, noise);
    }

    [Fact]
    public void Fuzzy_motifs_are_distinct_tokens_of_uniform_length_and_the_probe_is_asked_at_the_end()
    {
        foreach (MadSplit split in (MadSplit[])[MadSplit.Train, MadSplit.Test])
        {
            (int[][] inputs, int[][] targets) = Make("fuzzy_recall", split);
            var keyLengths = new int[4];
            var valueLengths = new int[4];
            int motifs = 0;
            for (int e = 0; e < Examples; e++)
            {
                int padding = inputs[e].TakeWhile(token => token == 15).Count();
                Assert.InRange(padding, 1, 12);
                List<(int[] Key, int[] Value)> pairs = Parse([.. inputs[e][padding..], .. targets[e][^1..]]);
                Assert.All(inputs[e][padding..], token => Assert.InRange(token, 0, 14));

                // The last pair is the probe's repetition: it was there before, with the same value.
                (int[] Key, int[] Value) probe = pairs[^1];
                Assert.Contains(pairs[..^1], pair => pair.Key.SequenceEqual(probe.Key) && pair.Value.SequenceEqual(probe.Value));
                Assert.Equal(probe.Value, targets[e][^probe.Value.Length..]);
                Assert.All(pairs.GroupBy(pair => string.Join(',', pair.Key)), group => Assert.Single(group.Select(pair => string.Join(',', pair.Value)).Distinct()));
                Assert.All(pairs, pair => Assert.Equal(pair.Key.Length + pair.Value.Length, pair.Key.Distinct().Count() + pair.Value.Distinct().Count()));
                (int[] Key, int[] Value) firstPair = pairs[0];
                keyLengths[firstPair.Key.Length]++;
                valueLengths[firstPair.Value.Length]++;
                motifs++;
                int asked = targets[e].Count(target => target != Ignored);
                Assert.True(split == MadSplit.Test ? asked >= probe.Value.Length : asked == inputs[e].Length);
            }

            for (int length = 1; length <= 3; length++)
            {
                Near(valueLengths[length], motifs, 1.0 / 3);
                Near(keyLengths[length], motifs, split == MadSplit.Train ? 1.0 / 3 : length == 3 ? 1 : 0);
            }
        }
    }

    [Fact]
    public void Memorization_has_one_map_for_training_and_test()
    {
        var map = new Dictionary<int, int>();
        var counts = new int[127];
        foreach (MadSplit split in (MadSplit[])[MadSplit.Train, MadSplit.Test])
        {
            (int[][] inputs, int[][] targets) = Make("memorization", split);
            for (int e = 0; e < Examples; e++)
            {
                for (int i = 0; i < 32; i += 2)
                {
                    counts[inputs[e][i]]++;
                    Assert.Equal((255, Ignored), (inputs[e][i + 1], targets[e][i]));
                    Assert.Equal(map.TryAdd(inputs[e][i], targets[e][i + 1]) ? targets[e][i + 1] : map[inputs[e][i]], targets[e][i + 1]);
                }
            }
        }

        Assert.Equal(127, map.Count);
        Assert.Equal(127, map.Values.Distinct().Count());
        Assert.All(map.Values, value => Assert.InRange(value, 127, 254));
        Assert.All(counts, count => Near(count, 2 * Examples * 16, 1.0 / 127));
        Assert.NotEqual([.. map.OrderBy(pair => pair.Key).Select(pair => pair.Value)], map.Values.Order());
    }

    [Fact]
    public void Compression_returns_the_whole_input()
    {
        (int[][] inputs, int[][] targets) = Make("compression", MadSplit.Train);
        var counts = new int[16];
        for (int e = 0; e < Examples; e++)
        {
            Assert.Equal(inputs[e], targets[e]);
            Assert.Equal(15, inputs[e][^1]);
            Array.ForEach(inputs[e][..^1], token => counts[token]++);
        }

        Assert.Equal(0, counts[15]);
        Assert.All(counts[..15], count => Near(count, Examples * 31, 1.0 / 15));
    }

    [Fact]
    public void Copying_asks_for_the_tokens_in_order_wherever_blanks_are()
    {
        (int[][] inputs, int[][] targets) = Make("selective_copying", MadSplit.Test);
        int before = 0;
        for (int e = 0; e < Examples; e++)
        {
            int[] tokens = [.. inputs[e].Where(token => token < 14)];
            Assert.Equal(16, tokens.Length);
            Assert.Equal(15, inputs[e][239]);
            Assert.All(inputs[e][240..], token => Assert.Equal(14, token));
            Assert.Equal(tokens, targets[e][240..]);
            Assert.All(targets[e][..240], target => Assert.Equal(Ignored, target));
            Assert.InRange(inputs[e][238], 0, 13);
            before += Array.FindIndex(inputs[e], token => token < 14);
        }

        // 223 blanks, each before one of 16 tokens with equal probability.
        Near(before, Examples * 223, 1.0 / 16);
    }

    [Fact]
    public void Parity_counts_ones_and_S5_multiplies()
    {
        (int[][] inputs, int[][] targets) = Make("parity", MadSplit.Train);
        int ones = 0;
        for (int e = 0; e < Examples; e++)
        {
            Assert.Equal(inputs[e].Sum() % 2, targets[e][^1]);
            Assert.Equal(inputs[e][..50].Sum() % 2, targets[e][49]);
            ones += inputs[e].Sum();
        }

        Near(ones, Examples * 128, 0.5);
        MadTask s5 = MadTaskKind.Parse("s5").Create(MadTaskKind.Parse("s5").Baseline);
        Assert.Equal(("12345", "54321"), (s5.Describe(0), s5.Describe(119)));
        (inputs, targets) = Make("s5", MadSplit.Train);
        for (int e = 0; e < 20; e++)
        {
            int[] things = [0, 1, 2, 3, 4];
            for (int i = 0; i < 128; i++)
            {
                string read = s5.Describe(inputs[e][i]);
                things = [.. things.Select(thing => read[thing] - '1')];
                Assert.Equal(string.Concat(things.Select(thing => thing + 1)), s5.Describe(targets[e][i]));
            }
        }

        // Every element has an inverse, and some do not commute.
        Assert.All(Enumerable.Range(0, 120), element => Assert.Contains(Enumerable.Range(0, 120), other => PermutationTask.Product(element, other) == 0));
        Assert.NotEqual(PermutationTask.Product(1, 2), PermutationTask.Product(2, 1));
    }

    public static TheoryData<string, string, int, int> Impossible => new()
    {
        { "in_context_recall", "length 127 % 2 = 0", 16, 127 },
        { "in_context_recall", "length 2 >= 4", 16, 2 },
        { "in_context_recall", "vocabulary 1 - noise tokens 0 >= 2", 1, 128 },
        { "noisy_recall", "vocabulary 17 - noise tokens 16 >= 2", 17, 128 },
        { "fuzzy_recall", "(vocabulary 6 - 1) / 2 = 2 >= motif 3", 6, 128 },
        { "fuzzy_recall", "length 16 >= 6 x motif - 1 = 17", 16, 16 },
        { "memorization", "length 31 % 2 = 0", 256, 31 },
        { "memorization", "vocabulary 2 - 1 >= 2", 2, 32 },
        { "compression", "vocabulary 1 >= 2", 1, 32 },
        { "selective_copying", "length 32 >= 2 x tokens to copy + 1 = 33", 16, 32 },
        { "selective_copying", "vocabulary 2 >= 3", 2, 256 },
        { "parity", "vocabulary 3 = 2", 3, 128 },
        { "s5", "vocabulary 60 = 5! = 120", 60, 128 },
    };

    [Theory]
    [MemberData(nameof(Impossible))]
    public void Settings_that_cannot_be_are_refused_with_the_inequality(string name, string inequality, int vocabulary, int length)
    {
        MadTaskKind kind = MadTaskKind.Parse(name);
        var exception = Assert.Throws<InvalidInputException>(() => kind.Create(kind.Baseline with { Vocabulary = vocabulary, Length = length }));
        Assert.Contains(inequality + " must hold", exception.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void The_shortest_sequences_can_be_made()
    {
        foreach ((string name, int vocabulary, int length) in ((string, int, int)[])[("in_context_recall", 2, 4), ("fuzzy_recall", 7, 17), ("compression", 2, 2), ("selective_copying", 3, 33), ("memorization", 3, 2)])
        {
            MadTaskKind kind = MadTaskKind.Parse(name);
            MadTask task = kind.Create(kind.Baseline with { Vocabulary = vocabulary, Length = length });
            Assert.Contains(MadExamples.Generate(task, MadSplit.Test, 3, 200).Targets, target => target != Ignored);
        }
    }

    private static void Near(long count, long trials, double probability)
        => Assert.Equal(trials * probability, count, 4.5 * Math.Sqrt(trials * probability * (1 - probability)));

    private static (int[][] Inputs, int[][] Targets) Make(string name, MadSplit split, MadSettings? settings = null)
    {
        MadTaskKind kind = MadTaskKind.Parse(name);
        MadExamples examples = MadExamples.Generate(kind.Create(settings ?? kind.Baseline), split, 5, Examples);
        return ([.. examples.Inputs.Chunk(examples.Length)], [.. examples.Targets.Chunk(examples.Length)]);
    }

    /// <summary>Pairs of a fuzzy sequence: a key is a run of key tokens, a value the run of value tokens behind it.</summary>
    private static List<(int[] Key, int[] Value)> Parse(int[] sequence)
    {
        var pairs = new List<(int[] Key, int[] Value)>();
        for (int at = 0; at < sequence.Length;)
        {
            int[] key = [.. sequence.Skip(at).TakeWhile(token => token < 7)];
            int[] value = [.. sequence.Skip(at + key.Length).TakeWhile(token => token is >= 7 and < 15)];
            Assert.True(key.Length is >= 1 and <= 3 && value.Length is >= 1 and <= 3);
            pairs.Add((key, value));
            at += key.Length + value.Length;
        }

        return pairs;
    }
}
