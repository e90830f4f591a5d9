namespace ExactFlow.Training.Experiments.Mad;

/// <summary>
/// Accuracy as MAD's public implementation counts it, for figures that are to stand beside published ones: the mean over batches of the mean, within a batch, over
/// the classes that occur among its targets or among the answers to them. A class that is answered and never asked for counts as one of which nothing was hit.
/// </summary>
/// <remarks>
/// <see cref="MadAccuracy"/> counts only the classes that occur among all targets. The two agree where every class is asked for in every batch; a model that
/// answers fuzzy recall's questions for a value with a key once in a batch loses an eighth of its score by it.
/// </remarks>
/// <param name="classes">Classes, which are tokens of the vocabulary.</param>
public sealed class MadScore(int classes)
{
    private readonly int[] asked = new int[classes];
    private readonly int[] answered = new int[classes];
    private readonly int[] hits = new int[classes];
    private double sum;
    private int examples;

    /// <summary>The score of all batches so far, from 0 to 1; each weighs as much as it has examples.</summary>
    public double Value => examples == 0 ? 0 : sum / examples;

    /// <summary>Adds a batch.</summary>
    /// <param name="count">Its examples.</param>
    /// <param name="targets">What was asked for, without what is ignored.</param>
    /// <param name="answers">The answer to each.</param>
    public void Add(int count, ReadOnlySpan<int> targets, ReadOnlySpan<int> answers)
    {
        ArgumentOutOfRangeException.ThrowIfNotEqual(answers.Length, targets.Length);
        Array.Clear(asked);
        Array.Clear(answered);
        Array.Clear(hits);
        for (int i = 0; i < targets.Length; i++)
        {
            asked[targets[i]]++;
            answered[answers[i]]++;
            hits[targets[i]] += targets[i] == answers[i] ? 1 : 0;
        }

        double recalls = 0;
        int present = 0;
        for (int i = 0; i < asked.Length; i++)
        {
            recalls += asked[i] > 0 ? (double)hits[i] / asked[i] : 0;
            present += asked[i] + answered[i] > 0 ? 1 : 0;
        }

        sum += present == 0 ? 0 : count * recalls / present;
        examples += count;
    }
}
