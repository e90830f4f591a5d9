using System.Diagnostics;

namespace ExactFlow.Testing;

/// <summary>Runs the tests of a class once more in a process of its own, with other environment variables: what is decided once per process needs this.</summary>
public static class ChildProcess
{
    private static readonly TimeSpan Limit = TimeSpan.FromMinutes(5);

    /// <summary>Runs a test class of the calling test program.</summary>
    /// <param name="testClass">A class of the test program.</param>
    /// <param name="environment">Variables to set.</param>
    /// <returns>Exit code (0 when all tests passed) and everything that was printed, the summary with the totals included.</returns>
    public static (int ExitCode, string Output) RunTests(Type testClass, params (string Name, string Value)[] environment)
    {
        ArgumentNullException.ThrowIfNull(testClass);
        ArgumentNullException.ThrowIfNull(environment);
        string program = testClass.Assembly.Location;
        var start = new ProcessStartInfo("dotnet") { RedirectStandardOutput = true, RedirectStandardError = true, UseShellExecute = false };
        foreach (string argument in (string[])["exec", program, "-class", testClass.FullName!, "-noColor"])
        {
            start.ArgumentList.Add(argument);
        }

        foreach ((string name, string value) in environment)
        {
            start.Environment[name] = value;
        }

        using Process process = Process.Start(start) ?? throw new InvalidOperationException($"{program} could not be started.");
        Task<string> output = process.StandardOutput.ReadToEndAsync();
        Task<string> errors = process.StandardError.ReadToEndAsync();
        if (!process.WaitForExit(Limit))
        {
            process.Kill(entireProcessTree: true);
            throw new TimeoutException($"The tests of {testClass.Name} did not end within {Limit.TotalMinutes} minutes with {string.Join(", ", environment)}.");
        }

        return (process.ExitCode, output.Result + errors.Result);
    }
}
