using System.Diagnostics;
using System.Security.Cryptography;
using System.Text;
using System.Text.RegularExpressions;
using ExactFlow.Cuda;

namespace ExactFlow.Testing.Emulation;

/// <summary>
/// Compiles kernels for <see cref="EmulatedCudaDriver"/>: g++ with <c>emulation.h</c> in front of the unchanged source. The machine code is a shared
/// library that lists its kernels. Preprocessing comes first, because macros make kernels and only their expansion tells the names.
/// </summary>
public sealed partial class EmulatedKernelCompiler : IKernelCompiler
{
    private const string Compiler = "g++";

    /// <summary>
    /// The sanitizers call into the headers, not into a library: of every access to memory they are told. Symbols stay local, or two loaded copies of a
    /// kernel would share their variables. Line numbers are there to name the places of faults.
    /// </summary>
    private static readonly string[] Options =
    [
        "-std=c++17", "-O1", "-march=native", "-shared", "-fPIC", "-fvisibility=hidden", "-fno-gnu-unique", "-fno-exceptions", "-fno-rtti", "-ffp-contract=off",
        "-fsanitize=alignment,bounds", "-fsanitize=thread", "--param", "tsan-instrument-func-entry-exit=0", "-g1", "-nostdlib", "-Wno-unknown-pragmas", "-Werror=return-type", "-Werror=uninitialized",
    ];

    private static readonly string Header = string.Concat(((string[])["emulation.h", "emulation_checks.h", "emulation_language.h"]).Select(ReadHeader));

    private static readonly Lazy<string?> FoundVersion = new(FindVersion);

    /// <summary>Whether g++ can be run here.</summary>
    public static bool IsAvailable => FoundVersion.Value is not null && OperatingSystem.IsLinux() && System.Runtime.InteropServices.RuntimeInformation.ProcessArchitecture == System.Runtime.InteropServices.Architecture.X64;

    /// <inheritdoc/>
    public string Version { get; } =
        $"{FoundVersion.Value} {string.Join(' ', Options)} with {Convert.ToHexStringLower(SHA256.HashData(Encoding.UTF8.GetBytes(Header + Table(""))))}";

    /// <inheritdoc/>
    public byte[] Compile(string name, string source, IReadOnlyList<string> options)
    {
        using var folder = new TemporaryFolder();
        string expanded = folder["expanded.ii"];
        File.WriteAllText(folder["source.cpp"], $"{Header}\n#line 1 \"{name}\"\n{source}");
        Run(name, ["-std=c++17", "-E", folder["source.cpp"], "-o", expanded]);
        string text = File.ReadAllText(expanded);
        string library = folder["kernels.so"];
        File.WriteAllText(folder["kernels.cpp"], $"#define __global__\n#define __launch_bounds__(...)\n{text}\n{Table(text)}");
        Run(name, [.. Options, folder["kernels.cpp"], "-o", library, "-lm", "-lc", "-lgcc"]);
        return File.ReadAllBytes(library);
    }

    /// <summary>The exported list of the kernels in a preprocessed source.</summary>
    private static string Table(string source)
    {
        var entries = new StringBuilder();
        int count = 0;
        foreach (Match match in Kernels().Matches(source))
        {
            string threads = match.Groups["threads"] is { Success: true } bounds ? bounds.Value.Trim() : "1024";
            entries.Append(System.Globalization.CultureInfo.InvariantCulture, $"    emulation::kernel<&{match.Groups["name"].Value}>(\"{match.Groups["name"].Value}\", {threads}),\n");
            count++;
        }

        return $$"""
            extern "C" __attribute__((visibility("default"), no_sanitize("thread"))) const emulation::Kernel* emulation_kernels(int* count)
            {
                static constexpr emulation::Kernel kernels[] = {
            {{entries}}    {nullptr, nullptr, 0, 0, nullptr} };
                *count = {{count}};
                return kernels;
            }

            """;
    }

    private static void Run(string name, IEnumerable<string> arguments)
    {
        using Process process = Start(arguments);
        Task<string> output = process.StandardOutput.ReadToEndAsync();
        string log = process.StandardError.ReadToEnd();
        process.WaitForExit();
        _ = output.GetAwaiter().GetResult();
        if (process.ExitCode != 0)
        {
            throw new CudaException(Compiler, CudaResult.InvalidSource, $"{Compiler} could not compile {name} for the emulated GPU:{Environment.NewLine}{log.TrimEnd()}");
        }
    }

    private static Process Start(IEnumerable<string> arguments)
        => Process.Start(new ProcessStartInfo(Compiler, arguments) { UseShellExecute = false, RedirectStandardOutput = true, RedirectStandardError = true })!;

    private static string? FindVersion()
    {
        try
        {
            using Process process = Start(["--version"]);
            string? version = process.StandardOutput.ReadLine();
            process.StandardOutput.ReadToEnd();
            process.WaitForExit();
            return version;
        }
        catch (System.ComponentModel.Win32Exception)
        {
            return null;
        }
    }

    private static string ReadHeader(string name)
    {
        using Stream stream = typeof(EmulatedKernelCompiler).Assembly.GetManifestResourceStream(name)!;
        using var reader = new StreamReader(stream);
        return $"#line 1 \"{name}\"\n{reader.ReadToEnd()}";
    }

    [GeneratedRegex("""extern\s+"C"\s+__global__\s+void\s+(?:__launch_bounds__\(\s*(?<threads>(?:[^(),]|\([^()]*\))+)(?:,[^()]*)?\)\s*)?(?<name>\w+)\s*\(""", RegexOptions.ExplicitCapture, matchTimeoutMilliseconds: 10_000)]
    private static partial Regex Kernels();
}
