using ExactFlow.Training;
using Spectre.Console;

namespace ExactFlow.Cli.Display;

/// <summary>Shows training as it goes: a live table on a terminal, lines otherwise.</summary>
internal abstract class TrainingDisplay : IDisposable
{
    /// <summary>The display for where the output goes.</summary>
    /// <param name="wantsJson">Standard output belongs to a JSON document: lines go to standard error.</param>
    public static TrainingDisplay Create(bool wantsJson) =>
        wantsJson ? new TrainingLines(Console.Error)
        : Console.IsOutputRedirected ? new TrainingLines(Console.Out)
        : new TrainingTable(AnsiConsole.Console);

    /// <summary>A run to be shown under a name, such as <c>efla</c> or <c>deltanet, seed 43</c>.</summary>
    public abstract ITrainingObserver Observe(string run);

    /// <summary>Tells what happens outside of training: reading text, learning the tokenizer.</summary>
    public abstract void Say(string sentence);

    /// <summary>Ends the display; what it showed stays.</summary>
    public abstract void Dispose();
}
