using System.Globalization;

namespace ExactFlow.Tensors.MatrixProduct;

/// <summary>The data caches of the first processor in bytes, read from the system once; common sizes where it does not tell.</summary>
public static class CacheSizes
{
    private const string SystemFolder = "/sys/devices/system/cpu/cpu0/cache";

    /// <summary>First level, one core.</summary>
    public static int Level1 { get; } = Read(1) ?? (32 << 10);

    /// <summary>Second level, one core.</summary>
    public static int Level2 { get; } = Read(2) ?? (512 << 10);

    /// <summary>Third level, shared by some or all cores; as large as the second where there is none.</summary>
    public static int Level3 { get; } = Read(3) ?? Math.Max(Level2, 8 << 20);

    /// <summary>Bytes written in a cache size file, such as <c>48K</c> or <c>32768K</c>; null when it is something else.</summary>
    internal static int? Parse(string text)
    {
        ReadOnlySpan<char> trimmed = text.AsSpan().Trim();
        int shift = trimmed.EndsWith("K") ? 10 : trimmed.EndsWith("M") ? 20 : 0;
        ReadOnlySpan<char> digits = shift == 0 ? trimmed : trimmed[..^1];
        return int.TryParse(digits, NumberStyles.None, CultureInfo.InvariantCulture, out int number) && number > 0 && number <= int.MaxValue >> shift ? number << shift : null;
    }

    private static int? Read(int level)
    {
        try
        {
            foreach (string folder in Directory.Exists(SystemFolder) ? Directory.EnumerateDirectories(SystemFolder, "index*") : [])
            {
                string type = File.ReadAllText(Path.Combine(folder, "type")).Trim();
                string found = File.ReadAllText(Path.Combine(folder, "level")).Trim();
                if (type != "Instruction" && found == level.ToString(CultureInfo.InvariantCulture))
                {
                    return Parse(File.ReadAllText(Path.Combine(folder, "size")));
                }
            }
        }
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException)
        {
            // A sandbox may hide these files: the common sizes do.
        }

        return null;
    }
}
