using System.Runtime.InteropServices;
using ExactFlow.Tensors.Simd;

namespace ExactFlow.Training.Runs;

/// <summary>The machine in a line, for reports.</summary>
public static class MachineDescription
{
    /// <summary>The GPU, if one computes; processor, cores, vector width, memory, operating system, runtime.</summary>
    public static string Describe(string? gpu = null)
    {
        double gibibytes = GC.GetGCMemoryInfo().TotalAvailableMemoryBytes / (double)(1 << 30);
        return $"{(gpu is null ? "" : gpu + "; ")}{Processor()}, {Environment.ProcessorCount} logical cores, SIMD {Simd.Level}, {gibibytes:F0} GiB; {RuntimeInformation.OSDescription.Trim()}; {RuntimeInformation.FrameworkDescription}";
    }

    private static string Processor()
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
}
