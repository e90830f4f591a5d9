using System.Globalization;
using System.Text;
using ExactFlow.Tensors.Files;

namespace ExactFlow.Training.Experiments;

/// <summary>A table as comma-separated values (RFC 4180, lines ending in a line feed).</summary>
public static class CsvTable
{
    /// <summary>Writes a table, whole or not at all.</summary>
    /// <param name="path">The file.</param>
    /// <param name="columns">Heads.</param>
    /// <param name="rows">Rows of as many cells; numbers are written so that they can be read back exactly, null is an empty cell.</param>
    public static void Write(string path, IReadOnlyList<string> columns, IEnumerable<IReadOnlyList<object?>> rows)
    {
        ArgumentNullException.ThrowIfNull(columns);
        ArgumentNullException.ThrowIfNull(rows);
        var text = new StringBuilder().AppendJoin(',', columns.Select(Quote)).Append('\n');
        foreach (IReadOnlyList<object?> row in rows)
        {
            ArgumentOutOfRangeException.ThrowIfNotEqual(row.Count, columns.Count);
            text.AppendJoin(',', row.Select(cell => Quote(Convert.ToString(cell, CultureInfo.InvariantCulture) ?? string.Empty))).Append('\n');
        }

        AtomicFile.WriteAllText(path, text.ToString());
    }

    private static string Quote(string cell)
        => cell.AsSpan().IndexOfAny(",\"\r\n") < 0 ? cell : $"\"{cell.Replace("\"", "\"\"", StringComparison.Ordinal)}\"";
}
