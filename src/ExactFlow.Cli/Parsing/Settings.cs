using System.CommandLine;
using System.CommandLine.Parsing;
using System.Globalization;
using ExactFlow.Models;
using ExactFlow.Training.Options;

namespace ExactFlow.Cli.Parsing;

/// <summary>Makes options whose errors name the option, what is allowed and what was found.</summary>
internal static class Settings
{
    /// <summary>A whole number within bounds.</summary>
    public static Option<int> Whole(string name, string description, int defaultValue, int minimum, int maximum = int.MaxValue) => new(name)
    {
        Description = description,
        HelpName = "N",
        DefaultValueFactory = _ => defaultValue,
        CustomParser = result => ParseWhole(result, name, minimum, maximum),
    };

    /// <summary>A whole number within bounds, or nothing.</summary>
    public static Option<int?> OptionalWhole(string name, string description, int minimum, int maximum = int.MaxValue) => new(name)
    {
        Description = description,
        HelpName = "N",
        CustomParser = result => ParseWhole(result, name, minimum, maximum),
    };

    /// <summary>A seed: any unsigned 64-bit number.</summary>
    public static Option<ulong> Seed(string description, ulong defaultValue = 42) => new("--seed")
    {
        Description = description,
        HelpName = "N",
        DefaultValueFactory = _ => defaultValue,
        CustomParser = result =>
        {
            string text = Only(result);
            if (!ulong.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out ulong value))
            {
                result.AddError($"--seed takes a whole number from 0 to {ulong.MaxValue}, but it is '{text}'");
            }

            return value;
        },
    };

    /// <summary>Seeds: how many, or which.</summary>
    /// <param name="name">The option.</param>
    /// <param name="description">What they are for.</param>
    /// <param name="first">The option that says from where to count.</param>
    public static Option<int[]> Seeds(string name, string description, Option<int> first) => new(name)
    {
        Description = description,
        HelpName = "N|A,B,...",
        Arity = ArgumentArity.ExactlyOne,
        CustomParser = result =>
        {
            const int MostSeeds = 1000;
            string text = Only(result);
            string[] parts = text.Split(',', StringSplitOptions.TrimEntries);
            var seeds = new int[parts.Length];
            for (int i = 0; i < parts.Length; i++)
            {
                if (!int.TryParse(parts[i], NumberStyles.None, CultureInfo.InvariantCulture, out seeds[i]))
                {
                    result.AddError($"{name} takes how many seeds, or seeds separated by commas, but it is '{text}'");
                    return [];
                }
            }

            if (parts.Length == 1 && seeds[0] is (< 1 or > MostSeeds))
            {
                result.AddError($"{name} takes from 1 to {MostSeeds} seeds, or seeds separated by commas, but it is '{text}'");
                return [];
            }

            // While this option is parsed, one that was not given has no value yet, not even its default.
            int start = result.GetResult(first) is { Implicit: false } ? result.GetValue(first) : (int)first.GetDefaultValue()!;
            return parts.Length > 1 ? seeds : [.. Enumerable.Range(start, seeds[0])];
        },
    };

    /// <summary>Numbers within bounds separated by commas, none twice.</summary>
    public static Option<double[]> Numbers(string name, string description, double[] defaultValue, double minimum, double maximum) => new(name)
    {
        Description = $"{description}, separated by commas",
        HelpName = "X,Y,...",
        Arity = ArgumentArity.ExactlyOne,
        DefaultValueFactory = _ => defaultValue,
        CustomParser = result =>
        {
            string text = Only(result);
            string[] parts = text.Split(',', StringSplitOptions.TrimEntries);
            var numbers = new double[parts.Length];
            for (int i = 0; i < parts.Length; i++)
            {
                if (!double.TryParse(parts[i], NumberStyles.Float, CultureInfo.InvariantCulture, out numbers[i]) || !(numbers[i] >= minimum && numbers[i] <= maximum))
                {
                    string range = minimum == double.Epsilon ? $"above 0 and at most {maximum}" : $"from {minimum} to {maximum}";
                    result.AddError($"{name} takes numbers {range} separated by commas, but one is '{parts[i]}'");
                    return [];
                }
            }

            if (numbers.Distinct().Count() != numbers.Length)
            {
                result.AddError($"{name} names a number twice: '{text}'; name each once");
            }

            return numbers;
        },
    };

    /// <summary>A number within bounds.</summary>
    public static Option<double> Number(string name, string description, double defaultValue, double minimum, double maximum) => new(name)
    {
        Description = description,
        HelpName = "X",
        DefaultValueFactory = _ => defaultValue,
        CustomParser = result =>
        {
            string text = Only(result);
            if (!double.TryParse(text, NumberStyles.Float, CultureInfo.InvariantCulture, out double value) || !(value >= minimum && value <= maximum))
            {
                string range = double.IsPositiveInfinity(maximum) ? $"of {minimum} or more" : $"from {minimum} to {maximum}";
                result.AddError($"{name} takes a number {range}, but it is '{text}'");
            }

            return value;
        },
    };

    /// <summary>One of a few words.</summary>
    public static Option<string> Choice(string name, string description, string defaultValue, IReadOnlyList<string> allowed) => new(name)
    {
        Description = description,
        HelpName = string.Join('|', allowed),
        DefaultValueFactory = _ => defaultValue,
        CustomParser = result =>
        {
            string text = Only(result);
            if (!allowed.Contains(text))
            {
                result.AddError($"{name} takes one of {string.Join(", ", allowed)}, but it is '{text}'{Suggestion.For(text, allowed)}");
            }

            return text;
        },
    };

    /// <summary><c>--precision</c> of commands that run a model.</summary>
    public static Option<string> Precision() => Choice("--precision", "number format of activations: auto = bfloat16 on GPUs, float32 on the CPU", ModelPrecision.Auto, ModelPrecision.Names);

    /// <summary>Names separated by commas, each one of the allowed, none twice.</summary>
    public static Option<string[]> Names(string name, string description, string[] defaultValue, IReadOnlyList<string> allowed) => new(name)
    {
        Description = $"{description}; any of {string.Join(", ", allowed)}",
        HelpName = "A,B,...",
        Arity = ArgumentArity.ExactlyOne,
        DefaultValueFactory = _ => defaultValue,
        CustomParser = result =>
        {
            string[] names = Only(result).Split(',', StringSplitOptions.TrimEntries);
            foreach (string given in names)
            {
                if (!allowed.Contains(given))
                {
                    result.AddError($"{name} takes names separated by commas out of {string.Join(", ", allowed)}, but one is '{given}'{Suggestion.For(given, allowed)}");
                    return names;
                }
            }

            if (names.Distinct(StringComparer.Ordinal).Count() != names.Length)
            {
                result.AddError($"{name} names '{names.GroupBy(given => given).First(group => group.Count() > 1).Key}' twice; name each once");
            }

            return names;
        },
    };

    /// <summary>Words after the command, each one of the allowed, any number of them.</summary>
    public static Argument<string[]> AnyOf(string name, string description, IReadOnlyList<string> allowed) => new(name)
    {
        Description = $"{description}; any of {string.Join(", ", allowed)}",
        Arity = ArgumentArity.ZeroOrMore,
        CustomParser = result =>
        {
            // What looks like an option is none of the command's, or it would not have come here: it is left to the complaint about those.
            string[] words = [.. result.Tokens.Select(token => token.Value).TakeWhile(word => !word.StartsWith('-'))];
            result.OnlyTake(words.Length);
            if (words.FirstOrDefault(word => !allowed.Contains(word)) is { } unknown)
            {
                result.AddError($"the {name} is one of {string.Join(", ", allowed)}, but it is '{unknown}'{Suggestion.For(unknown, allowed)}");
            }

            return words;
        },
    };

    /// <summary><c>--field</c>: where the text is in JSON lines and Parquet.</summary>
    public static Option<string> Field() => new("--field") { Description = "field of JSON lines, or column of Parquet, that holds the text", HelpName = "NAME", DefaultValueFactory = _ => DataOptions.DefaultField };

    /// <summary>A path or a word that is taken as it is.</summary>
    public static Option<string> Required(string name, string description, string helpName) => new(name) { Description = description, HelpName = helpName, Required = true };

    /// <summary>A path or a word that is taken as it is, or nothing.</summary>
    public static Option<string?> Optional(string name, string description, string helpName) => new(name) { Description = description, HelpName = helpName };

    private static int ParseWhole(ArgumentResult result, string name, int minimum, int maximum)
    {
        string text = Only(result);
        if (!int.TryParse(text, NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture, out int value) || value < minimum || value > maximum)
        {
            string range = maximum == int.MaxValue ? $"of {minimum} or more" : $"from {minimum} to {maximum}";
            result.AddError($"{name} takes a whole number {range}, but it is '{text}'");
        }

        return value;
    }

    private static string Only(ArgumentResult result) => result.Tokens[0].Value;
}
