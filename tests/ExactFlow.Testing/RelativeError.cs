namespace ExactFlow.Testing;

/// <summary>How far float32 results are from their float64 references.</summary>
public static class RelativeError
{
    /// <summary>
    /// |actual - expected| / |expected| in the Euclidean norm; the plain norm of actual where expected is all zeros; NaN as soon as one element is
    /// NaN on one side only. Infinities must agree.
    /// </summary>
    public static double L2(ReadOnlySpan<float> actual, ReadOnlySpan<double> expected)
    {
        if (actual.Length != expected.Length)
        {
            throw new ArgumentException($"{actual.Length} results were compared with {expected.Length} expected ones.", nameof(actual));
        }

        double difference = 0;
        double norm = 0;
        for (int i = 0; i < actual.Length; i++)
        {
            if (double.IsFinite(expected[i]))
            {
                difference += (actual[i] - expected[i]) * (actual[i] - expected[i]);
                norm += expected[i] * expected[i];
            }
            else if (!expected[i].Equals(actual[i]))
            {
                return double.NaN;
            }
        }

        return norm == 0 ? Math.Sqrt(difference) : Math.Sqrt(difference / norm);
    }
}
