using System.Globalization;
using ExactFlow.Training;
using Spectre.Console;

namespace ExactFlow.Cli.Display;

/// <summary>The table that a comparison ends with.</summary>
internal static class ComparisonTable
{
    private const int WidthOfPipes = 160;

    /// <summary>Writes the table: a row a rule, mean and spread over the seeds, and what Brotli makes of the same text.</summary>
    public static void Write(ComparisonResult result)
    {
        Table table = new Table().Border(TableBorder.Simple).AddColumns("rule", "parameters", "validation loss", "perplexity", "bits per byte", "tok/s", "peak memory");
        foreach (TableColumn column in table.Columns.Skip(1))
        {
            column.RightAligned();
        }

        foreach (RuleResult rule in result.Rules)
        {
            string[] cells =
            [
                rule.Rule,
                rule.Parameters.ToString("#,0", CultureInfo.InvariantCulture),
                WithSpread(rule, seed => seed.ValidationLoss, "0.0000"),
                WithSpread(rule, seed => seed.Perplexity, "0.00"),
                WithSpread(rule, seed => seed.BitsPerByte, "0.0000"),
                WithSpread(rule, seed => seed.TokensPerSecond, "#,0"),
                Units.Bytes(rule.Seeds.Max(seed => seed.PeakBytes)),
            ];
            table.AddRow([.. cells.Select(cell => new Text(cell))]);
        }

        table.AddRow("brotli at its best", "", "", "", result.BrotliBitsPerByte.ToString("0.0000", CultureInfo.InvariantCulture), "", "");
        if (Console.IsOutputRedirected)
        {
            AnsiConsole.Profile.Width = WidthOfPipes;
        }

        AnsiConsole.Write(table);
        int skipped = result.Rules.Sum(rule => rule.Seeds.Sum(seed => seed.SkippedSteps));
        if (skipped > 0)
        {
            Console.WriteLine($"{skipped} steps were not applied because their loss or gradient was not finite.");
        }
    }

    private static string WithSpread(RuleResult rule, Func<SeedResult, double> figure, string format)
    {
        string mean = rule.Mean(figure).ToString(format, CultureInfo.InvariantCulture);
        double spread = rule.Spread(figure);
        return double.IsNaN(spread) ? mean : $"{mean} ± {spread.ToString(format, CultureInfo.InvariantCulture)}";
    }
}
