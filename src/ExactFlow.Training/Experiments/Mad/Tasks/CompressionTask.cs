namespace ExactFlow.Training.Experiments.Mad.Tasks;

/// <summary>Compression: random tokens and the compression token, in whose state the whole input must be, for a decoder to tell it again.</summary>
internal sealed class CompressionTask : MadTask
{
    /// <summary>Checks the settings.</summary>
    public CompressionTask(MadSettings settings)
        : base(settings)
    {
        Require(settings.Vocabulary >= 2, $"vocabulary {settings.Vocabulary} >= 2", "choose a larger vocabulary, with a token besides the compression token");
        Require(settings.Length >= 2, $"length {settings.Length} >= 2", "choose a longer sequence, with a token to compress");
    }

    /// <inheritdoc/>
    public override string Name => "compression";

    /// <inheritdoc/>
    public override int InputLength => Settings.Length;

    /// <inheritdoc/>
    public override bool IsCompression => true;

    /// <inheritdoc/>
    public override string Describe(int token) => token == Settings.Vocabulary - 1 ? "C" : $"{token}";

    /// <inheritdoc/>
    protected override void Fill(MadRandom random, MadSplit split, ulong seed, Span<int> inputs, Span<int> targets)
    {
        for (int i = 0; i < inputs.Length - 1; i++)
        {
            inputs[i] = random.Below(Settings.Vocabulary - 1);
        }

        inputs[^1] = Settings.Vocabulary - 1;
        inputs.CopyTo(targets);
    }
}
