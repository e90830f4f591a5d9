namespace ExactFlow.Cuda;

/// <summary>Measures several ways to do the same work in turns, so that what the machine does meanwhile meets all of them.</summary>
internal static class FastestCandidate
{
    private const int Turns = 5;

    /// <summary>What a measurement holds at least: some 300 microseconds of a fast GPU, far above the resolution of its clock.</summary>
    private const double OperationsPerMeasurement = 2e11;

    private const int MostRepetitions = 40;

    /// <summary>How much faster than the first candidate another must be to take its place: below that it is noise.</summary>
    private const double LeastGain = 0.01;

    /// <summary>The number of the fastest candidate, by the best of its turns; 0 when none is clearly faster than that, or none runs.</summary>
    /// <param name="count">Candidates.</param>
    /// <param name="operations">Operations of the work.</param>
    /// <param name="queue">Queues the work, done by a candidate; false when the candidate refuses.</param>
    /// <param name="time">How long what is queued within a call takes.</param>
    public static int Of(int count, double operations, Func<int, bool> queue, Func<Action, TimeSpan> time)
    {
        int repetitions = (int)Math.Clamp(OperationsPerMeasurement / operations, 1, MostRepetitions);
        bool[] runs = [.. Enumerable.Range(0, count).Select(queue)];
        var best = new TimeSpan[count];
        Array.Fill(best, TimeSpan.MaxValue);
        for (int turn = 0; turn < Turns; turn++)
        {
            for (int candidate = 0; candidate < count; candidate++)
            {
                if (runs[candidate])
                {
                    TimeSpan elapsed = time(() => Repeat(candidate));
                    best[candidate] = !runs[candidate] ? TimeSpan.MaxValue : elapsed < best[candidate] ? elapsed : best[candidate];
                }
            }
        }

        int fastest = Array.IndexOf(best, best.Min());
        return best[fastest] < best[0] * (1 - LeastGain) ? fastest : 0;

        void Repeat(int candidate)
        {
            for (int i = 0; i < repetitions; i++)
            {
                runs[candidate] &= queue(candidate);
            }
        }
    }
}
