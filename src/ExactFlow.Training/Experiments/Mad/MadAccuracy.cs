namespace ExactFlow.Training.Experiments.Mad;

/// <summary>Accuracy as MAD counts it: the mean, over the classes that occur among the targets, of the share of their targets that were hit.</summary>
public sealed class MadAccuracy
{
    private readonly int[] totals;

    /// <summary>Counts the targets of each class.</summary>
    /// <param name="targets">All targets of the test; <see cref="MadTask.Ignored"/> does not count.</param>
    /// <param name="classes">Classes, which are tokens of the vocabulary.</param>
    public MadAccuracy(ReadOnlySpan<int> targets, int classes)
    {
        totals = new int[classes];
        foreach (int target in targets)
        {
            if (target != MadTask.Ignored)
            {
                totals[target]++;
            }
        }
    }

    /// <summary>The accuracy, from 0 to 1.</summary>
    /// <param name="hits">Targets of each class that were hit.</param>
    public double Of(ReadOnlySpan<int> hits)
    {
        double sum = 0;
        int present = 0;
        for (int i = 0; i < totals.Length; i++)
        {
            if (totals[i] > 0)
            {
                sum += (double)hits[i] / totals[i];
                present++;
            }
        }

        return present == 0 ? 0 : sum / present;
    }
}
