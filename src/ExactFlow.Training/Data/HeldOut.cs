using ExactFlow.Tensors.Randomness;

namespace ExactFlow.Training.Data;

/// <summary>Chooses the files to validate on.</summary>
internal static class HeldOut
{
    /// <summary>
    /// Names of files that together have about the wanted part of the bytes, taken in the order of a hash of their names, so that the choice does not change with the order or the
    /// number of other files more than it must. Empty if no files come to between half and one and a half times the wanted part.
    /// </summary>
    public static HashSet<string> Choose(IEnumerable<(string Name, long Length)> files, double fraction)
    {
        (string Name, long Length)[] ordered = [.. files.OrderBy(file => Philox.StreamOf(file.Name)).ThenBy(file => file.Name, StringComparer.Ordinal)];
        double wanted = ordered.Sum(file => file.Length) * fraction;
        HashSet<string> chosen = new(StringComparer.Ordinal);
        double sum = 0;
        foreach ((string name, long length) in ordered)
        {
            if (sum < 0.9 * wanted && sum + length <= 1.5 * wanted && length > 0)
            {
                sum += length;
                chosen.Add(name);
            }
        }

        return sum >= 0.5 * wanted ? chosen : [];
    }
}
