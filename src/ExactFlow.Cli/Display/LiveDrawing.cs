using Spectre.Console;
using Spectre.Console.Rendering;

namespace ExactFlow.Cli.Display;

/// <summary>Draws something on a terminal again and again, in place, until it is disposed; what it showed last stays.</summary>
internal sealed class LiveDrawing : IDisposable
{
    private const int RedrawMilliseconds = 100;
    private readonly ManualResetEventSlim ended = new();
    private readonly IAnsiConsole console;
    private readonly Func<IRenderable> render;
    private readonly Thread drawer;

    /// <summary>Begins to draw, on a thread of its own.</summary>
    /// <param name="console">The terminal.</param>
    /// <param name="render">What to show now.</param>
    /// <param name="name">The thread's name.</param>
    public LiveDrawing(IAnsiConsole console, Func<IRenderable> render, string name)
    {
        (this.console, this.render) = (console, render);
        drawer = new Thread(Draw) { IsBackground = true, Name = name };
        drawer.Start();
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        ended.Set();
        drawer.Join();
        ended.Dispose();
    }

    private void Draw()
    {
        try
        {
            console.Live(render()).Start(context =>
            {
                bool isLast;
                do
                {
                    isLast = ended.Wait(RedrawMilliseconds);
                    context.UpdateTarget(render());
                }
                while (!isLast);
            });
        }
        catch (Exception exception) when (exception is IOException or InvalidOperationException)
        {
            // A terminal that cannot be drawn on must not end the training.
            Console.Error.WriteLine($"exactflow: the display ended ({exception.Message.ReplaceLineEndings(" ")}), the work goes on.");
        }
    }
}
