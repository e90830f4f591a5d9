namespace ExactFlow.Training.Experiments.Mad.Tasks;

/// <summary>
/// In-context recall, and noisy recall with noise: pairs of key and value follow each other, a key keeps its value within the sequence, and the last pair
/// repeats a key that was there. In training the whole sequence is asked for; at test time the values of keys seen before.
/// </summary>
/// <remarks>
/// The vocabulary without noise is halved: keys [0, n / 2), values [n / 2, n), noise [n, vocabulary). With a probability a pair is replaced by two noise
/// tokens; one pair, chosen before, is kept, and the last pair is always real.
/// </remarks>
internal sealed class RecallTask : MadTask
{
    private readonly int keys;
    private readonly int values;

    /// <summary>Checks the settings.</summary>
    public RecallTask(string name, MadSettings settings)
        : base(settings)
    {
        Name = name;
        int signal = settings.Vocabulary - settings.NoiseVocabulary;
        keys = signal / 2;
        values = signal - keys;
        Require(settings.Length % 2 == 0, $"length {settings.Length} % 2 = 0", "choose an even length, as keys and values alternate");
        Require(settings.Length >= 4, $"length {settings.Length} >= 4", "choose a longer sequence, with a pair to ask for");
        Require(settings.NoiseVocabulary >= 0 && keys >= 1, $"vocabulary {settings.Vocabulary} - noise tokens {settings.NoiseVocabulary} >= 2", "choose a larger vocabulary, with a key and a value at least");
        Require(settings.Noise is >= 0 and <= 1, $"0 <= noise {settings.Noise} <= 1", "it is a probability");
        Require(settings.Noise == 0 || settings.NoiseVocabulary > 0, $"noise tokens {settings.NoiseVocabulary} >= 1 where noise {settings.Noise} > 0", "give noise tokens to draw from");
    }

    /// <inheritdoc/>
    public override string Name { get; }

    /// <inheritdoc/>
    public override int InputLength => Settings.Length - 1;

    /// <inheritdoc/>
    public override string Describe(int token) => token < keys ? $"k{token}" : token < keys + values ? $"v{token - keys}" : $"n{token - keys - values}";

    /// <inheritdoc/>
    protected override void Fill(MadRandom random, MadSplit split, ulong seed, Span<int> inputs, Span<int> targets)
    {
        Span<int> sequence = new int[Settings.Length];
        Span<bool> asked = new bool[Settings.Length];
        Span<int> valueOf = new int[keys];
        valueOf.Fill(-1);
        var seen = new List<int>();
        int pairs = Settings.Length / 2, kept = random.Below(pairs - 1);
        for (int pair = 0; pair < pairs - 1; pair++)
        {
            bool isNoise = pair != kept && Settings.Noise > 0 && random.Chance(Settings.Noise);
            Span<int> at = sequence.Slice(2 * pair, 2);
            if (isNoise)
            {
                at[0] = keys + values + random.Below(Settings.NoiseVocabulary);
                at[1] = keys + values + random.Below(Settings.NoiseVocabulary);
                continue;
            }

            int key = random.Below(keys);
            asked[(2 * pair) + 1] = valueOf[key] >= 0;
            if (valueOf[key] < 0)
            {
                valueOf[key] = keys + random.Below(values);
                seen.Add(key);
            }

            (at[0], at[1]) = (key, valueOf[key]);
        }

        int last = seen[random.Below(seen.Count)];
        (sequence[^2], sequence[^1], asked[^1]) = (last, valueOf[last], true);
        Shift(sequence, asked, split == MadSplit.Train, inputs, targets);
    }
}
