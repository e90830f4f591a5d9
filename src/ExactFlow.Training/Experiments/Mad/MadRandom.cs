using ExactFlow.Tensors.Randomness;

namespace ExactFlow.Training.Experiments.Mad;

/// <summary>The random numbers of one example: a function of task, split, seed and the example's index alone, whatever is drawn before it or at the same time.</summary>
/// <param name="task">The task's name.</param>
/// <param name="split">Training or test.</param>
/// <param name="seed">Seed of the data set.</param>
/// <param name="index">Which example, from 0.</param>
public ref struct MadRandom(string task, MadSplit split, ulong seed, int index)
{
    /// <summary>Draws that an example has for itself: 2^32.</summary>
    private const int IndexShift = 32;

    private readonly Philox philox = new(seed, Philox.StreamOf($"mad/{task}/{(split == MadSplit.Train ? "train" : "test")}"));
    private ulong position = (ulong)(uint)index << IndexShift;

    /// <summary>A uniform whole number from 0 to <paramref name="count"/> - 1.</summary>
    public int Below(int count) => philox.Below(position++, count);

    /// <summary>True with a probability.</summary>
    public bool Chance(double probability) => philox.Uniform(position++) < probability;

    /// <summary>A uniformly drawn ordered choice of distinct numbers from [first, first + count).</summary>
    /// <param name="first">The smallest that can be drawn.</param>
    /// <param name="count">How many there are; at least the length of <paramref name="chosen"/>.</param>
    /// <param name="chosen">Receives them.</param>
    public void Distinct(int first, int count, Span<int> chosen)
    {
        for (int i = 0; i < chosen.Length; i++)
        {
            int next;
            do
            {
                next = first + Below(count);
            }
            while (chosen[..i].Contains(next));
            chosen[i] = next;
        }
    }

    /// <summary>Puts values into a uniformly drawn order (Fisher and Yates).</summary>
    public void Shuffle(Span<int> values)
    {
        for (int i = values.Length - 1; i > 0; i--)
        {
            int other = Below(i + 1);
            (values[i], values[other]) = (values[other], values[i]);
        }
    }
}
