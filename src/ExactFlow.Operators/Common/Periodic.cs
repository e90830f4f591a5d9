namespace ExactFlow.Operators;

/// <summary>
/// A short row that meets every row of a matrix (a bias, a parameter per head), repeated until whole vectors fit: a matrix with 3 columns
/// and a row of 3 is, element for element, a matrix with 48 columns and that row 16 times, and 48 is a whole number of vectors of any width.
/// Rows that are long enough stay as they are. The last row of the wider matrix may be cut short.
/// </summary>
internal static unsafe class Periodic
{
    private const int Repeats = 16;
    private const int LongEnough = 64;

    /// <summary>Length of the repeated row.</summary>
    public static int Length(int dimension) => dimension >= LongEnough ? dimension : Repeats * dimension;

    /// <summary>Writes the repeated row.</summary>
    public static void Repeat(float* row, int dimension, float* destination)
    {
        for (int i = 0; i < Length(dimension); i += dimension)
        {
            new ReadOnlySpan<float>(row, dimension).CopyTo(new Span<float>(destination + i, dimension));
        }
    }

    /// <summary>result[d] (+)= sum of the entries of a repeated row that stand for d, in order.</summary>
    public static void Fold(float* repeated, int dimension, float* result, bool accumulate)
    {
        int length = Length(dimension);
        for (int d = 0; d < dimension; d++)
        {
            float sum = 0;
            for (int i = d; i < length; i += dimension)
            {
                sum += repeated[i];
            }

            result[d] = accumulate ? result[d] + sum : sum;
        }
    }
}
