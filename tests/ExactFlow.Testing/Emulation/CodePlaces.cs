using System.ComponentModel;
using System.Diagnostics;
using System.Text.RegularExpressions;

namespace ExactFlow.Testing.Emulation;

/// <summary>Puts source lines into messages of the checks, which name places in the machine code.</summary>
/// <param name="image">The library of kernels, with line numbers.</param>
internal sealed partial class CodePlaces(byte[] image)
{
    /// <summary>Replaces each <c>@offset</c> by file and line, innermost call first; leaves it where binutils is not installed.</summary>
    public string Name(string message)
    {
        using var folder = new TemporaryFolder();
        string path = folder["kernels.so"];
        File.WriteAllBytes(path, image);
        return Offset().Replace(message, match => Find(path, match.Groups["offset"].Value) ?? match.Value);
    }

    private static string? Find(string path, string offset)
    {
        try
        {
            using Process process = Process.Start(
                new ProcessStartInfo("addr2line", ["-i", "-e", path, offset]) { UseShellExecute = false, RedirectStandardOutput = true, RedirectStandardError = true })!;
            string[] lines = process.StandardOutput.ReadToEnd().Split('\n', StringSplitOptions.RemoveEmptyEntries);
            process.WaitForExit();
            return string.Join(" in ", lines.Select(line => Path.GetFileName(line.Split(" (", 2)[0]).Replace(":", " line ", StringComparison.Ordinal)));
        }
        catch (Win32Exception)
        {
            return null;
        }
    }

    [GeneratedRegex("@(?<offset>[0-9a-f]+)", RegexOptions.ExplicitCapture, matchTimeoutMilliseconds: 10_000)]
    private static partial Regex Offset();
}
