using System.Reflection;
using System.Runtime.InteropServices;
using System.Text.RegularExpressions;
using ExactFlow.Tensors.Simd;

namespace ExactFlow.Training.Runs;

/// <summary>The machine in a line, for reports.</summary>
public static partial class MachineDescription
{
    /// <summary>The GPU, if one computes; processor, cores, vector width, memory, operating system, runtime.</summary>
    public static string Describe(string? gpu = null)
    {
        double gibibytes = GC.GetGCMemoryInfo().TotalAvailableMemoryBytes / (double)(1 << 30);
        return $"{(gpu is null ? "" : gpu + "; ")}{Processor()}, {Environment.ProcessorCount} logical cores, SIMD {Simd.Level}, {gibibytes:F0} GiB; {RuntimeInformation.OSDescription.Trim()}; {RuntimeInformation.FrameworkDescription}";
    }

    /// <summary>Version of NVIDIA's driver as the system tells it, or null.</summary>
    public static string? NvidiaDriver()
    {
        const string Told = "/proc/driver/nvidia/version";
        try
        {
            return DriverVersion().Match(File.ReadAllText(Told)) is { Success: true } match ? match.Value : null;
        }
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException)
        {
            return null;
        }
    }

    /// <summary>The commit that this program was built from, or null where the build did not know.</summary>
    public static string? Commit()
    {
        string? version = typeof(MachineDescription).Assembly.GetCustomAttribute<AssemblyInformationalVersionAttribute>()?.InformationalVersion;
        int plus = version?.IndexOf('+', StringComparison.Ordinal) ?? -1;
        return plus < 0 ? null : version![(plus + 1)..];
    }

    /// <summary>The processor's name.</summary>
    public static string Processor()
    {
        const string Key = "model name";
        try
        {
            string? line = File.ReadLines("/proc/cpuinfo").FirstOrDefault(text => text.StartsWith(Key, StringComparison.Ordinal));
            return line is null ? RuntimeInformation.ProcessArchitecture.ToString() : line[(line.IndexOf(':', StringComparison.Ordinal) + 1)..].Trim();
        }
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException)
        {
            return Environment.GetEnvironmentVariable("PROCESSOR_IDENTIFIER") ?? RuntimeInformation.ProcessArchitecture.ToString();
        }
    }

    /// <summary>Such as 570.86.15.</summary>
    [GeneratedRegex(@"\b\d{3,}\.\d+(\.\d+)?\b", RegexOptions.ExplicitCapture, matchTimeoutMilliseconds: 1000)]
    private static partial Regex DriverVersion();
}
