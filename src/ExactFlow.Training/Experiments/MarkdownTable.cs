using System.Text;

namespace ExactFlow.Training.Experiments;

/// <summary>A table in Markdown.</summary>
public static class MarkdownTable
{
    /// <summary>The table as text, with an end of line after each row. The first column is aligned to the left, the others to the right.</summary>
    /// <param name="columns">Heads.</param>
    /// <param name="rows">Rows of as many cells.</param>
    public static string Render(IReadOnlyList<string> columns, IEnumerable<IReadOnlyList<string>> rows)
    {
        ArgumentNullException.ThrowIfNull(columns);
        ArgumentNullException.ThrowIfNull(rows);
        var text = new StringBuilder();
        Append(text, columns);
        text.Append("|---|").Insert(text.Length, "---:|", columns.Count - 1).Append('\n');
        foreach (IReadOnlyList<string> row in rows)
        {
            ArgumentOutOfRangeException.ThrowIfNotEqual(row.Count, columns.Count);
            Append(text, row);
        }

        return text.ToString();
    }

    private static void Append(StringBuilder text, IReadOnlyList<string> cells)
        => text.Append("| ").AppendJoin(" | ", cells.Select(cell => cell.Replace("|", "\\|", StringComparison.Ordinal).ReplaceLineEndings(" "))).Append(" |\n");
}
