using System.CommandLine;
using ExactFlow.Training.Options;

namespace ExactFlow.Cli.Parsing;

/// <summary>The options that make a recipe: a file, settings that override it, and short forms of the settings most often given.</summary>
internal sealed class RecipeOptions
{
    private readonly Option<string?> config = Settings.Optional("--config", "recipe: a JSON file with the settings below, nested at the dots", "FILE");

    private readonly Option<string[]> set = new("--set")
    {
        Description = "a setting of those below; may be repeated, and overrides the recipe",
        HelpName = "KEY=VALUE",
        DefaultValueFactory = _ => [],
    };

    private readonly Option<string[]> text = new("--text")
    {
        Description = "text to learn: files or folders; without it, the documentation that ships with the .NET SDK",
        HelpName = "FILE|DIR",
        AllowMultipleArgumentsPerToken = true,
        DefaultValueFactory = _ => [],
    };

    private readonly Option<int?> steps = Settings.OptionalWhole("--steps", "optimizer steps", 1);
    private readonly Option<string> precision = Settings.Precision();
    private readonly Option<string?> name = Settings.Optional("--name", "name of the run and of its folder", "NAME");
    private readonly Option<string> runs = new("--runs") { Description = "folder that holds the runs", HelpName = "DIR", DefaultValueFactory = _ => "runs" };

    /// <summary>The settings of a recipe with their defaults and meanings, for the help.</summary>
    public static IReadOnlyList<(string Setting, string Meaning)> Describe<T>()
        where T : class, new() => [.. OptionsJson.Describe<T>().Select(row => ($"{row.Path}={row.Default}", row.Description))];

    /// <summary>Adds the options to a command and returns them.</summary>
    public static RecipeOptions AddTo(Command command)
    {
        var options = new RecipeOptions();
        foreach (Option option in (Option[])[options.text, options.steps, options.precision, options.name, options.config, options.set, options.runs])
        {
            command.Options.Add(option);
        }

        return options;
    }

    /// <summary>The recipe that was asked for, without the short forms.</summary>
    /// <param name="parsed">The command line.</param>
    /// <param name="shortForms">Settings that other options stand for; they override the recipe, as <c>--set</c> does.</param>
    public T Load<T>(ParseResult parsed, IEnumerable<string> shortForms)
        where T : class, new()
    {
        IEnumerable<string> named = parsed.GetValue(name) is { } given ? [$"name={given}"] : [];
        return OptionsJson.Load<T>(parsed.GetValue(config), named.Concat(shortForms).Concat(parsed.GetValue(set)!));
    }

    /// <summary>A training recipe with <c>--text</c>, <c>--steps</c> and <c>--precision</c> applied.</summary>
    public TrainingOptions Apply(ParseResult parsed, TrainingOptions options)
    {
        string[] paths = parsed.GetValue(text)!;
        return options with
        {
            Steps = parsed.GetValue(steps) ?? options.Steps,
            Model = parsed.GetResult(precision) is { Implicit: false } ? options.Model with { Precision = parsed.GetRequiredValue(precision) } : options.Model,
            Data = paths.Length == 0 ? options.Data : options.Data with { Text = paths },
        };
    }

    /// <summary>The folder of a run, such as <c>runs/first</c>.</summary>
    public string FolderOf(ParseResult parsed, string run) => Path.Combine(parsed.GetRequiredValue(runs), run);
}
