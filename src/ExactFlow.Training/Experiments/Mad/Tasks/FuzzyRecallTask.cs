namespace ExactFlow.Training.Experiments.Mad.Tasks;

/// <summary>
/// Fuzzy recall: as in-context recall, but keys and values are motifs, each an ordered choice of one to three distinct tokens, so that a model must find out
/// where one ends. A probe pair stands somewhere in the sequence and is asked for at its end. At test time every key has the full length.
/// </summary>
/// <remarks>
/// Of the vocabulary but one token, keys are made of [0, n / 2), values of [n / 2, n); the last token pads on the left. A motif's length is uniform.
/// Pairs follow each other while there is room for another one of the greatest length and for the probe's repetition; then the sequence is padded, with one
/// token at least. In training the whole sequence is asked for, padding too; at test time the values of keys seen before.
/// </remarks>
internal sealed class FuzzyRecallTask : MadTask
{
    private readonly int keyTokens;
    private readonly int valueTokens;

    /// <summary>Checks the settings.</summary>
    public FuzzyRecallTask(MadSettings settings)
        : base(settings)
    {
        int signal = settings.Vocabulary - 1, motif = settings.Motif;
        keyTokens = signal / 2;
        valueTokens = signal - keyTokens;
        Require(motif >= 1, $"motif {motif} >= 1", "a key has one token at least");
        Require(keyTokens >= motif, $"(vocabulary {settings.Vocabulary} - 1) / 2 = {keyTokens} >= motif {motif}", "choose a larger vocabulary or shorter motifs, whose tokens are distinct");
        Require(settings.Length >= ShortestLength, $"length {settings.Length} >= 6 x motif - 1 = {ShortestLength}", "choose a longer sequence, with room for the probe, its question and a pair between");
    }

    /// <inheritdoc/>
    public override string Name => "fuzzy_recall";

    /// <inheritdoc/>
    public override int InputLength => Settings.Length;

    private int LargestPair => 2 * Settings.Motif;

    /// <summary>Two pairs for the probe, and its place must be drawn before others reach the end.</summary>
    private int ShortestLength => (3 * LargestPair) - 1;

    private int Padding => Settings.Vocabulary - 1;

    /// <inheritdoc/>
    public override string Describe(int token) => token < keyTokens ? $"k{token}" : token < keyTokens + valueTokens ? $"v{token - keyTokens}" : "_";

    /// <inheritdoc/>
    protected override void Fill(MadRandom random, MadSplit split, ulong seed, Span<int> inputs, Span<int> targets)
    {
        var pairs = new Dictionary<string, (int[] Key, int[] Value)>(StringComparer.Ordinal);
        var sequence = new List<int>(Settings.Length);
        var asked = new List<bool>(Settings.Length);
        var seen = new HashSet<string>(StringComparer.Ordinal);
        string probe = Draw(ref random, split, pairs);
        int probeLength = pairs[probe].Key.Length + pairs[probe].Value.Length, room = Settings.Length - probeLength - LargestPair;

        // The pair before the probe is at most of the greatest length, and the probe must begin where there is still room.
        int place = random.Below(Math.Max(1, room - LargestPair + 2));
        bool isPlaced = false;
        while (sequence.Count <= room)
        {
            string name = !isPlaced && sequence.Count >= place ? probe : Draw(ref random, split, pairs);
            isPlaced |= name == probe;
            Append(name);
        }

        Append(probe);
        Pad(sequence, asked, split, inputs, targets);

        void Append(string name)
        {
            bool isRepeated = !seen.Add(name);
            (int[] key, int[] value) = pairs[name];
            sequence.AddRange(key);
            asked.AddRange(Enumerable.Repeat(false, key.Length));
            sequence.AddRange(value);
            asked.AddRange(Enumerable.Repeat(isRepeated, value.Length));
        }
    }

    private void Pad(List<int> sequence, List<bool> asked, MadSplit split, Span<int> inputs, Span<int> targets)
    {
        int padding = inputs.Length + 1 - sequence.Count;
        int[] padded = [.. Enumerable.Repeat(Padding, padding), .. sequence];
        Shift(padded, [.. Enumerable.Repeat(false, padding), .. asked], split == MadSplit.Train, inputs, targets);
    }

    /// <summary>Draws a key and, unless it has one, its value; returns the key's name.</summary>
    private string Draw(ref MadRandom random, MadSplit split, Dictionary<string, (int[] Key, int[] Value)> pairs)
    {
        int length = split == MadSplit.Train ? 1 + random.Below(Settings.Motif) : Settings.Motif;
        int[] key = new int[length];
        random.Distinct(0, keyTokens, key);
        string name = string.Join(',', key);
        if (!pairs.ContainsKey(name))
        {
            int[] value = new int[1 + random.Below(Settings.Motif)];
            random.Distinct(keyTokens, valueTokens, value);
            pairs.Add(name, (key, value));
        }

        return name;
    }
}
