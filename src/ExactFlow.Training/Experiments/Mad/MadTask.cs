using ExactFlow.Tensors;

namespace ExactFlow.Training.Experiments.Mad;

/// <summary>
/// A task of MAD (arXiv 2403.17844) or of its kind at one difficulty: makes example after example out of nothing but seed, split and index. Targets are
/// token ids, or <see cref="Ignored"/> where nothing is asked.
/// </summary>
/// <param name="settings">The difficulty.</param>
public abstract class MadTask(MadSettings settings)
{
    /// <summary>A target that takes no part in loss and accuracy.</summary>
    public const int Ignored = -100;

    /// <summary>Name, as given to <c>--tasks</c>.</summary>
    public abstract string Name { get; }

    /// <summary>The difficulty.</summary>
    public MadSettings Settings { get; } = settings;

    /// <summary>Tokens of an example's input, and of its targets.</summary>
    public abstract int InputLength { get; }

    /// <summary>Whether the model is an encoder whose last state must tell the whole input, instead of a language model.</summary>
    public virtual bool IsCompression => false;

    /// <summary>Makes an example.</summary>
    /// <param name="split">Training or test; some tasks ask for less at test time than the whole sequence.</param>
    /// <param name="seed">Seed of the data set.</param>
    /// <param name="index">Which example.</param>
    /// <param name="inputs">Receives <see cref="InputLength"/> token ids.</param>
    /// <param name="targets">Receives what follows, or what the model must say, at each of them.</param>
    public void Generate(MadSplit split, ulong seed, int index, Span<int> inputs, Span<int> targets)
    {
        ArgumentOutOfRangeException.ThrowIfNotEqual(inputs.Length, InputLength);
        ArgumentOutOfRangeException.ThrowIfNotEqual(targets.Length, InputLength);
        Fill(new MadRandom(Name, split, seed, index), split, seed, inputs, targets);
    }

    /// <summary>The token as a reader understands it, such as <c>k3</c> for the fourth key.</summary>
    public abstract string Describe(int token);

    /// <summary>Makes an example from its random numbers.</summary>
    protected abstract void Fill(MadRandom random, MadSplit split, ulong seed, Span<int> inputs, Span<int> targets);

    /// <summary>Refuses settings that cannot be, with the inequality that fails.</summary>
    /// <param name="holds">Whether they can.</param>
    /// <param name="inequality">What must hold, with names and numbers.</param>
    /// <param name="remedy">What to change.</param>
    protected void Require(bool holds, string inequality, string remedy)
    {
        if (!holds)
        {
            throw new InvalidInputException($"The task {Name} cannot be made with these settings: {inequality} must hold; {remedy}.");
        }
    }

    /// <summary>From a whole sequence to what a language model reads and what it is asked: everything but the last token, everything but the first.</summary>
    /// <param name="sequence">One token longer than the inputs.</param>
    /// <param name="asked">Which tokens of the sequence are asked for.</param>
    /// <param name="asksForAll">Whether all are.</param>
    /// <param name="inputs">Receives the inputs.</param>
    /// <param name="targets">Receives the targets.</param>
    protected static void Shift(ReadOnlySpan<int> sequence, ReadOnlySpan<bool> asked, bool asksForAll, Span<int> inputs, Span<int> targets)
    {
        sequence[..^1].CopyTo(inputs);
        for (int i = 0; i < targets.Length; i++)
        {
            targets[i] = asksForAll || asked[i + 1] ? sequence[i + 1] : Ignored;
        }
    }
}
