using System.Collections.Concurrent;

namespace ExactFlow.Training.Experiments.Mad;

/// <summary>Examples of a task, made beforehand on all processors: rows of token ids and of targets.</summary>
public sealed class MadExamples
{
    private MadExamples(int count, int length) => (Count, Length, Inputs, Targets) = (count, length, new int[(long)count * length], new int[(long)count * length]);

    /// <summary>Examples.</summary>
    public int Count { get; }

    /// <summary>Tokens of each.</summary>
    public int Length { get; }

    /// <summary>[count, length], row-major.</summary>
    public int[] Inputs { get; }

    /// <summary>[count, length], row-major; <see cref="MadTask.Ignored"/> where nothing is asked.</summary>
    public int[] Targets { get; }

    /// <summary>Makes the first examples of a split.</summary>
    /// <param name="task">The task.</param>
    /// <param name="split">Training or test.</param>
    /// <param name="seed">Seed of the data set.</param>
    /// <param name="count">How many.</param>
    public static MadExamples Generate(MadTask task, MadSplit split, ulong seed, int count)
    {
        ArgumentNullException.ThrowIfNull(task);
        var examples = new MadExamples(count, task.InputLength);
        Parallel.ForEach(Partitioner.Create(0, count, Math.Max(1, count / (8 * Environment.ProcessorCount))), range =>
        {
            for (int i = range.Item1; i < range.Item2; i++)
            {
                int start = i * task.InputLength;
                task.Generate(split, seed, i, examples.Inputs.AsSpan(start, task.InputLength), examples.Targets.AsSpan(start, task.InputLength));
            }
        });
        return examples;
    }
}
