using System.Globalization;
using ExactFlow.Benchmarks;
using ExactFlow.Tensors;
using ExactFlow.Training.Benchmarks;

// ExactFlow.Benchmarks [suite...] [--filter TEXT] [--threads N] [--seconds PER_CASE]
// Prints a table per suite while it runs, and one JSON document as its last line.
var options = new BenchmarkOptions();
var chosen = new List<BenchmarkSuite>();
try
{
    for (int i = 0; i < args.Length; i++)
    {
        if (args[i] is "--help" or "-h")
        {
            Console.WriteLine("ExactFlow.Benchmarks [suite...] [--filter TEXT] [--threads N] [--seconds PER_CASE]");
            foreach (BenchmarkSuite suite in Suites.All)
            {
                Console.WriteLine($"  {suite.Name,-12}{suite.Summary}");
            }

            return 0;
        }

        if (args[i].StartsWith("--", StringComparison.Ordinal))
        {
            string option = args[i];
            string value = i + 1 < args.Length ? args[++i] : throw new InvalidInputException($"The option {option} was given without its value.");
            options = option switch
            {
                "--filter" => options with { Filter = value },
                "--threads" when int.TryParse(value, NumberStyles.None, CultureInfo.InvariantCulture, out int threads) && threads > 0 => options with { Threads = threads },
                "--seconds" when double.TryParse(value, CultureInfo.InvariantCulture, out double seconds) && seconds > 0 => options with { SecondsPerCase = seconds },
                _ => throw new InvalidInputException($"{option} {value} is not understood; see --help."),
            };
        }
        else
        {
            chosen.Add(Suites.All.FirstOrDefault(s => s.Name == args[i])
                ?? throw new InvalidInputException($"There is no suite {args[i]}; choose from {string.Join(", ", Suites.All.Select(s => s.Name))}."));
        }
    }

    var run = new BenchmarkRun(options, Console.Out);
    foreach (BenchmarkSuite suite in chosen.Count > 0 ? chosen : Suites.All)
    {
        run.Begin(suite);
        suite.Run(run);
    }

    Console.WriteLine(run.ToJson());
    return 0;
}
catch (InvalidInputException exception)
{
    Console.Error.WriteLine(exception.Message);
    return 2;
}
