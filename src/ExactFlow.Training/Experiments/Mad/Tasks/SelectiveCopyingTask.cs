namespace ExactFlow.Training.Experiments.Mad.Tasks;

/// <summary>
/// Selective copying: tokens to copy with blanks inserted at random places, then the copy token, then as many blanks as there are tokens, at which they are
/// asked for in order; the same targets in training and test.
/// </summary>
/// <remarks>Each blank goes before one of the tokens, all equally likely, so that the last token stands right before the copy token. The copy token is the last of the vocabulary, the blank the one before.</remarks>
internal sealed class SelectiveCopyingTask : MadTask
{
    /// <summary>Checks the settings.</summary>
    public SelectiveCopyingTask(MadSettings settings)
        : base(settings)
    {
        (int vocabulary, int length, int copies) = (settings.Vocabulary, settings.Length, settings.Copies);
        Require(vocabulary >= 3, $"vocabulary {vocabulary} >= 3", "choose a larger vocabulary, with a token besides blank and copy token");
        Require(copies >= 1, $"tokens to copy {copies} >= 1", "ask for one at least");
        Require(length >= (2 * copies) + 1, $"length {length} >= 2 x tokens to copy + 1 = {(2 * copies) + 1}", "choose a longer sequence or fewer tokens to copy");
    }

    /// <inheritdoc/>
    public override string Name => "selective_copying";

    /// <inheritdoc/>
    public override int InputLength => Settings.Length;

    private int Blank => Settings.Vocabulary - 2;

    /// <inheritdoc/>
    public override string Describe(int token) => token == Blank ? "." : token == Blank + 1 ? "COPY" : $"{token}";

    /// <inheritdoc/>
    protected override void Fill(MadRandom random, MadSplit split, ulong seed, Span<int> inputs, Span<int> targets)
    {
        int copies = Settings.Copies, blanks = inputs.Length - (2 * copies) - 1;
        Span<int> blanksBefore = new int[copies];
        for (int i = 0; i < blanks; i++)
        {
            blanksBefore[random.Below(copies)]++;
        }

        inputs.Fill(Blank);
        targets.Fill(Ignored);
        int at = 0;
        for (int i = 0; i < copies; i++)
        {
            at += blanksBefore[i];
            int token = random.Below(Settings.Vocabulary - 2);
            inputs[at++] = token;
            targets[^(copies - i)] = token;
        }

        inputs[^(copies + 1)] = Settings.Vocabulary - 1;
    }
}
