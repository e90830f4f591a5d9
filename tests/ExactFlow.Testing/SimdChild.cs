using System.Diagnostics;
using System.Reflection;
using System.Runtime.InteropServices;
using System.Text.RegularExpressions;
using ExactFlow.Tensors.Simd;

namespace ExactFlow.Testing;

/// <summary>
/// Runs tests of a test assembly again in a child process at another vector width. The assembly needs one test that calls <see cref="ReportLevel"/>;
/// it is part of every child's run and tells which level the child got.
/// </summary>
public static partial class SimdChild
{
    private const string ReportVariable = "EXACTFLOW_SIMD_REPORT";

    /// <summary>Whether this process is such a child.</summary>
    public static bool IsChild => Environment.GetEnvironmentVariable(ReportVariable) is not null;

    /// <summary>In a child, tells the parent the level; elsewhere does nothing.</summary>
    public static void ReportLevel()
    {
        if (Environment.GetEnvironmentVariable(ReportVariable) is { } path)
        {
            File.WriteAllText(path, Simd.Level.ToString());
        }
    }

    /// <summary>Runs tests of <paramref name="assembly"/> in a child.</summary>
    /// <param name="assembly">The test assembly.</param>
    /// <param name="setting">The level.</param>
    /// <param name="reportingClass">Full name of the class whose test calls <see cref="ReportLevel"/>.</param>
    /// <param name="classes">Full names of the test classes to run; <c>*</c> stands for anything.</param>
    /// <returns>Tests run.</returns>
    /// <exception cref="InvalidOperationException">A test failed, none ran, or the child ran at another level; the message holds its output.</exception>
    public static int Run(Assembly assembly, SimdSetting setting, string reportingClass, params ReadOnlySpan<string> classes)
    {
        string report = Path.Combine(Path.GetTempPath(), $"exactflow-simd-{Environment.ProcessId}-{Guid.NewGuid():N}");
        var start = new ProcessStartInfo(DotnetHost()) { UseShellExecute = false, RedirectStandardOutput = true, RedirectStandardError = true };
        start.ArgumentList.Add(assembly.Location);
        foreach (string name in (string[])[reportingClass, .. classes])
        {
            start.ArgumentList.Add("-class");
            start.ArgumentList.Add(name);
        }

        start.Environment[setting.Variable] = setting.Value;
        start.Environment[ReportVariable] = report;
        try
        {
            using Process child = Process.Start(start)!;
            Task<string> errors = child.StandardError.ReadToEndAsync();
            string output = child.StandardOutput.ReadToEnd() + errors.GetAwaiter().GetResult();
            child.WaitForExit();
            string level = File.Exists(report) ? File.ReadAllText(report) : "none";
            Match total = Total().Match(output);
            int tests = total.Success ? int.Parse(total.Groups[1].Value) : 0;
            return child.ExitCode == 0 && tests > 1 && level == setting.Expected.ToString()
                ? tests
                : throw new InvalidOperationException($"The child with {setting} ended with code {child.ExitCode} after {tests} tests at level {level}, expected {setting.Expected}:\n{output}");
        }
        finally
        {
            File.Delete(report);
        }
    }

    /// <summary>The host that runs this runtime: three folders above it.</summary>
    private static string DotnetHost()
        => Path.GetFullPath(Path.Combine(RuntimeEnvironment.GetRuntimeDirectory(), "..", "..", "..", OperatingSystem.IsWindows() ? "dotnet.exe" : "dotnet"));

    [GeneratedRegex(@"Total: (\d+)")]
    private static partial Regex Total();
}
