using System.CommandLine;
using System.Runtime.InteropServices;
using ExactFlow.Cli.Display;
using ExactFlow.Cli.Parsing;
using ExactFlow.Cuda;
using ExactFlow.Tensors;
using ExactFlow.Tensors.MatrixProduct;
using ExactFlow.Tensors.Simd;
using Spectre.Console;

namespace ExactFlow.Cli.Commands;

/// <summary><c>exactflow doctor</c>: what was found and will be used, how fast it is, and what is missing.</summary>
internal static class DoctorCommand
{
    /// <summary>Makes the command.</summary>
    public static Command Create()
    {
        var command = new CliCommand("doctor", "Shows what this machine has and what of it will be used: SIMD level, cores, memory, measured rates, GPUs, and what is missing.")
        {
            Examples =
            [
                ("exactflow doctor", "what was found, as a table"),
                ("exactflow doctor --threads 1 --json", "the rates of one thread, for a script"),
            ],
        };
        CommonOptions common = CommonOptions.AddTo(command);
        command.SetAction(parsed =>
        {
            using var device = new CpuDevice(parsed.GetRequiredValue(common.Threads));
            Diagnosis diagnosis = Examine(device);
            if (common.WantsJson(parsed))
            {
                JsonOutput.Write(diagnosis);
            }
            else
            {
                Show(diagnosis);
            }
        });
        return command;
    }

    private static Diagnosis Examine(CpuDevice device)
    {
        IReadOnlyList<CudaFinding> gpu = new CudaDiagnosis().Examine();
        List<string> missing = [.. gpu.Select(finding => finding.Missing).OfType<string>()];
        if (Simd.Level < Simd.Available)
        {
            missing.Add($"The SIMD level is lowered from {Simd.Name(Simd.Available)} to {Simd.Name(Simd.Level)} by {Simd.EnvironmentVariable}: unset it for full speed.");
        }

        return new Diagnosis(
            ProgramVersion(),
            RuntimeInformation.FrameworkDescription,
            $"{RuntimeInformation.OSDescription}, {RuntimeInformation.OSArchitecture}",
            ProcessorName(),
            Environment.ProcessorCount,
            device.Workers.WorkerCount,
            Simd.Name(Simd.Level),
            GC.GetGCMemoryInfo().TotalAvailableMemoryBytes,
            FreeMemory(),
            MachineCeilings.Measure(device.Workers),
            gpu,
            missing);
    }

    private static void Show(Diagnosis found)
    {
        Table table = Table("found", "");
        table.AddRow("exactflow", $"{found.Version} on {found.Framework}");
        table.AddRow("system", Markup.Escape(found.System));
        table.AddRow("processor", Markup.Escape(found.Processor));
        table.AddRow("threads", $"{found.Threads} of {found.LogicalProcessors} logical processors");
        table.AddRow("SIMD", found.SimdLevel);
        table.AddRow("memory", Units.Bytes(found.MemoryBytes) + (found.FreeMemoryBytes is { } free ? $", {Units.Bytes(free)} free" : ""));
        table.AddRow("matrix product", $"{found.Rates.MatrixProductGigaflops:0.0} GFLOP/s measured, float32");
        table.AddRow("memory copy", $"{found.Rates.CopyGigabytesPerSecond:0.0} GB/s measured, read plus written");
        table.AddRow("memory read", $"{found.Rates.ReadGigabytesPerSecond:0.0} GB/s measured");
        foreach (CudaFinding finding in found.Gpu)
        {
            table.AddRow(finding.What, Markup.Escape(finding.Found ?? "missing, see below"));
        }

        AnsiConsole.Write(table);
        Console.WriteLine(found.Missing.Count == 0 ? "Nothing is missing." : "Missing, in the order in which it is needed:");
        foreach (string sentence in found.Missing)
        {
            Console.WriteLine($"  {sentence}");
        }
    }

    private static Table Table(params string[] columns) => new Table().Border(TableBorder.None).HideHeaders().AddColumns(columns);

    private static string ProgramVersion() => typeof(DoctorCommand).Assembly.GetName().Version!.ToString(3);

    /// <summary>Bytes that programs may still take without swapping, where the system tells it.</summary>
    private static long? FreeMemory()
    {
        const string Information = "/proc/meminfo";
        string? line = File.Exists(Information) ? File.ReadLines(Information).FirstOrDefault(line => line.StartsWith("MemAvailable:", StringComparison.Ordinal)) : null;
        return line is null ? null : long.Parse(line.Split(' ', StringSplitOptions.RemoveEmptyEntries)[1]) * 1024;
    }

    /// <summary>The product name, where the system tells it; otherwise the architecture.</summary>
    private static string ProcessorName()
    {
        const string Information = "/proc/cpuinfo";
        string? line = File.Exists(Information) ? File.ReadLines(Information).FirstOrDefault(line => line.StartsWith("model name", StringComparison.Ordinal)) : null;
        return line?[(line.IndexOf(':', StringComparison.Ordinal) + 1)..].Trim() ?? Environment.GetEnvironmentVariable("PROCESSOR_IDENTIFIER") ?? RuntimeInformation.ProcessArchitecture.ToString();
    }

    private sealed record Diagnosis(
        string Version,
        string Framework,
        string System,
        string Processor,
        int LogicalProcessors,
        int Threads,
        string SimdLevel,
        long MemoryBytes,
        long? FreeMemoryBytes,
        MachineCeilings Rates,
        IReadOnlyList<CudaFinding> Gpu,
        IReadOnlyList<string> Missing);
}
