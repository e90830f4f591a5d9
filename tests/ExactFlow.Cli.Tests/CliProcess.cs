using System.Diagnostics;
using System.Runtime.InteropServices;
using System.Text;

namespace ExactFlow.Cli.Tests;

/// <summary>The built <c>exactflow</c> as a child process, the way a user meets it.</summary>
internal sealed partial class CliProcess : IDisposable
{
    private const int InterruptSignal = 2;
    private readonly Process process;
    private readonly StringBuilder output = new();
    private readonly StringBuilder error = new();
    private readonly List<(string Text, TaskCompletionSource Seen)> awaited = [];

    private CliProcess(string folder, IEnumerable<string> arguments, IReadOnlyDictionary<string, string>? environment)
    {
        // Through env, because a shell may have started the tests with Ctrl-C ignored, which children inherit.
        string dotnet = Path.GetFullPath(Path.Combine(RuntimeEnvironment.GetRuntimeDirectory(), "..", "..", "..", OperatingSystem.IsWindows() ? "dotnet.exe" : "dotnet"));
        string program = Path.Combine(AppContext.BaseDirectory, "exactflow.dll");
        string[] command = OperatingSystem.IsLinux() ? ["env", "--default-signal=INT", dotnet, program] : [dotnet, program];
        var start = new ProcessStartInfo(command[0], [.. command[1..], .. arguments])
        {
            UseShellExecute = false,
            WorkingDirectory = folder,
            RedirectStandardInput = true,
            RedirectStandardOutput = true,
            RedirectStandardError = true,
            StandardOutputEncoding = Encoding.UTF8,
            StandardErrorEncoding = Encoding.UTF8,
        };
        start.Environment.Remove("EXACTFLOW_DEBUG");
        foreach ((string name, string value) in environment ?? new Dictionary<string, string>(StringComparer.Ordinal))
        {
            start.Environment[name] = value;
        }

        process = new Process { StartInfo = start };
        process.OutputDataReceived += (_, line) => Append(output, line.Data);
        process.ErrorDataReceived += (_, line) => Append(error, line.Data);
        process.Start();
        process.BeginOutputReadLine();
        process.BeginErrorReadLine();
    }

    /// <summary>Runs a command to its end in a folder.</summary>
    public static CliResult Run(string folder, IEnumerable<string> arguments, string input = "", IReadOnlyDictionary<string, string>? environment = null)
    {
        using CliProcess started = Start(folder, arguments, environment);
        started.process.StandardInput.Write(input);
        return started.WaitForEnd();
    }

    /// <summary>Runs a command that needs no folder of its own.</summary>
    public static CliResult Run(params string[] arguments) => Run(AppContext.BaseDirectory, arguments);

    /// <summary>Starts a command.</summary>
    public static CliProcess Start(string folder, IEnumerable<string> arguments, IReadOnlyDictionary<string, string>? environment = null) => new(folder, arguments, environment);

    /// <summary>Waits until a line of standard output or error contains a text.</summary>
    public void WaitForText(string text)
    {
        var seen = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        lock (output)
        {
            if ($"{output}{error}".Contains(text, StringComparison.Ordinal))
            {
                return;
            }

            awaited.Add((text, seen));
        }

        Task ended = process.WaitForExitAsync();
        Assert.True(Task.WaitAny([seen.Task, ended], TimeSpan.FromMinutes(2)) == 0, $"'{text}' never appeared.\n{output}\n{error}");
    }

    /// <summary>Presses Ctrl-C.</summary>
    public void Interrupt() => Assert.Equal(0, Kill(process.Id, InterruptSignal));

    /// <summary>Waits for the end and returns what was written.</summary>
    public CliResult WaitForEnd()
    {
        process.StandardInput.Close();
        if (!process.WaitForExit(TimeSpan.FromMinutes(3)))
        {
            process.Kill(entireProcessTree: true);
            Assert.Fail($"The command did not end within three minutes.\n{output}\n{error}");
        }

        process.WaitForExit();
        return new CliResult(process.ExitCode, output.ToString(), error.ToString());
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        if (!process.HasExited)
        {
            process.Kill(entireProcessTree: true);
        }

        process.Dispose();
    }

    [LibraryImport("libc", EntryPoint = "kill")]
    private static partial int Kill(int process, int signal);

    private void Append(StringBuilder text, string? line)
    {
        if (line is null)
        {
            return;
        }

        lock (output)
        {
            text.Append(line).Append('\n');
            foreach ((string wanted, TaskCompletionSource seen) in awaited)
            {
                if (line.Contains(wanted, StringComparison.Ordinal))
                {
                    seen.TrySetResult();
                }
            }
        }
    }
}

/// <summary>How a command ended.</summary>
/// <param name="ExitCode">The process's exit code.</param>
/// <param name="Output">Standard output.</param>
/// <param name="Error">Standard error.</param>
internal sealed record CliResult(int ExitCode, string Output, string Error)
{
    /// <summary>Requires success without anything on standard error.</summary>
    public CliResult ShouldSucceed()
    {
        Assert.True(ExitCode == 0, $"Exit code {ExitCode}.\n{Output}\n{Error}");
        return this;
    }

    /// <summary>Requires exit code 2 and exactly one sentence on standard error that holds all of the given parts, without a stack trace.</summary>
    public void ShouldBeRefused(params string[] parts)
    {
        Assert.True(ExitCode == 2, $"Exit code {ExitCode}.\n{Output}\n{Error}");
        string line = Assert.Single(Error.Split('\n', StringSplitOptions.RemoveEmptyEntries));
        Assert.StartsWith("exactflow: ", line, StringComparison.Ordinal);
        Assert.EndsWith(".", line, StringComparison.Ordinal);
        Assert.DoesNotContain("   at ", line, StringComparison.Ordinal);
        Assert.DoesNotContain("Exception", line, StringComparison.Ordinal);
        Assert.DoesNotContain(". ", line, StringComparison.Ordinal);
        foreach (string part in parts)
        {
            Assert.Contains(part, line, StringComparison.Ordinal);
        }
    }
}
