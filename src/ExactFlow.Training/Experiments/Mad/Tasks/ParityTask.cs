namespace ExactFlow.Training.Experiments.Mad.Tasks;

/// <summary>State tracking in its smallest form: at every bit, the parity of the bits so far. It takes a negative eigenvalue (arXiv 2411.12537) or a decision that does not fade.</summary>
internal sealed class ParityTask : MadTask
{
    /// <summary>Checks the settings.</summary>
    public ParityTask(MadSettings settings)
        : base(settings)
    {
        Require(settings.Vocabulary == 2, $"vocabulary {settings.Vocabulary} = 2", "a bit is 0 or 1");
        Require(settings.Length >= 1, $"length {settings.Length} >= 1", "choose a longer sequence");
    }

    /// <inheritdoc/>
    public override string Name => "parity";

    /// <inheritdoc/>
    public override int InputLength => Settings.Length;

    /// <inheritdoc/>
    public override string Describe(int token) => $"{token}";

    /// <inheritdoc/>
    protected override void Fill(MadRandom random, MadSplit split, ulong seed, Span<int> inputs, Span<int> targets)
    {
        int parity = 0;
        for (int i = 0; i < inputs.Length; i++)
        {
            inputs[i] = random.Below(2);
            targets[i] = parity ^= inputs[i];
        }
    }
}
