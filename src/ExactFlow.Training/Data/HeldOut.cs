using ExactFlow.Tensors.Randomness;

namespace ExactFlow.Training.Data;

/// <summary>Chooses the files to validate on.</summary>
internal static class HeldOut
{
    /// <summary>
    /// Indices of files that together have about the wanted part of the bytes, taken in the order of a hash of their names, so that the choice does not change with the order or the
    /// number of other files more than it must. Empty if no files come to between half and one and a half times the wanted part.
    /// </summary>
    public static HashSet<int> Choose(IReadOnlyList<(string Name, long Length)> files, double fraction)
    {
        double wanted = files.Sum(file => file.Length) * fraction;
        HashSet<int> chosen = [];
        double sum = 0;
        foreach (int index in Enumerable.Range(0, files.Count).OrderBy(index => Philox.StreamOf(files[index].Name)).ThenBy(index => files[index].Name, StringComparer.Ordinal))
        {
            long length = files[index].Length;
            if (sum < 0.9 * wanted && sum + length <= 1.5 * wanted && length > 0)
            {
                sum += length;
                chosen.Add(index);
            }
        }

        return sum >= 0.5 * wanted ? chosen : [];
    }
}
