namespace ExactFlow.Training.Experiments.Mad.Tasks;

/// <summary>
/// Memorization: a fixed map from keys to values, the same in training and test, which a model must learn by heart. The input alternates between a key,
/// drawn anew each time, and the insert token, at which the value is asked for and never shown.
/// </summary>
/// <remarks>Of the vocabulary but the insert token, which is the last, keys are [0, n / 2); their values are drawn without repetition from [n / 2, n) by the seed.</remarks>
internal sealed class MemorizationTask : MadTask
{
    private readonly int keys;
    private volatile Map? map;

    /// <summary>Checks the settings.</summary>
    public MemorizationTask(MadSettings settings)
        : base(settings)
    {
        keys = (settings.Vocabulary - 1) / 2;
        Require(settings.Length % 2 == 0, $"length {settings.Length} % 2 = 0", "choose an even length, as keys and insert tokens alternate");
        Require(settings.Length >= 2, $"length {settings.Length} >= 2", "choose a longer sequence");
        Require(keys >= 1, $"vocabulary {settings.Vocabulary} - 1 >= 2", "choose a larger vocabulary, with a key and a value at least");
    }

    /// <inheritdoc/>
    public override string Name => "memorization";

    /// <inheritdoc/>
    public override int InputLength => Settings.Length;

    private int Insert => Settings.Vocabulary - 1;

    /// <inheritdoc/>
    public override string Describe(int token) => token < keys ? $"k{token}" : token == Insert ? "?" : $"v{token - keys}";

    /// <inheritdoc/>
    protected override void Fill(MadRandom random, MadSplit split, ulong seed, Span<int> inputs, Span<int> targets)
    {
        int[] values = ValuesOf(seed);
        for (int i = 0; i < inputs.Length; i += 2)
        {
            int key = random.Below(keys);
            (inputs[i], inputs[i + 1]) = (key, Insert);
            (targets[i], targets[i + 1]) = (Ignored, values[key]);
        }
    }

    /// <summary>The values in a shuffled order, of which each key takes one.</summary>
    private int[] ValuesOf(ulong seed)
    {
        if (map is { } known && known.Seed == seed)
        {
            return known.Values;
        }

        int[] values = [.. Enumerable.Range(keys, Insert - keys)];
        new MadRandom("memorization/map", MadSplit.Train, seed, 0).Shuffle(values);
        map = new Map(seed, values);
        return values;
    }

    private sealed record Map(ulong Seed, int[] Values);
}
