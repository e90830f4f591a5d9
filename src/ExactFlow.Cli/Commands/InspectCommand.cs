using System.CommandLine;
using System.Diagnostics;
using System.Globalization;
using System.Numerics;
using System.Runtime.InteropServices;
using System.Security.Cryptography;
using System.Text.Encodings.Web;
using System.Text.Json;
using System.Text.Json.Nodes;
using ExactFlow.Cli.Display;
using ExactFlow.Cli.Parsing;
using ExactFlow.Models;
using ExactFlow.Tensors;
using ExactFlow.Tensors.Files;
using Spectre.Console;

namespace ExactFlow.Cli.Commands;

/// <summary><c>exactflow inspect</c>: the tensors of a model folder or of a safetensors file.</summary>
internal static class InspectCommand
{
    private const int WidthOfPipes = 160;
    private const int HashBufferBytes = 1 << 20;
    private static readonly JsonSerializerOptions Indented = new() { WriteIndented = true, Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping };

    /// <summary>Makes the command.</summary>
    public static Command Create()
    {
        Option<string> model = Settings.Required("--model", "folder of a model, a checkpoint or a run (its newest checkpoint), or a safetensors file", "DIR|FILE");
        var check = new Option<bool>("--check") { Description = "also load the model: every tensor that is missing, unknown or of another shape than config.json says is listed, and the time is told" };
        var json = new Option<bool>("--json") { Description = "write one JSON document to standard output" };
        var command = new CliCommand("inspect", "Shows what a model folder or a safetensors file holds: tensors with formats, shapes and sizes, the hash of every file, and the configuration.")
        {
            Examples =
            [
                ("exactflow inspect --model runs/first", "the newest checkpoint of a run"),
                ("exactflow inspect --model downloaded/ --check", "whether a downloaded folder can be loaded here"),
            ],
        };
        command.Options.Add(model);
        command.Options.Add(check);
        command.Options.Add(json);
        command.SetAction(parsed => Run(parsed.GetRequiredValue(model), parsed.GetValue(check), parsed.GetValue(json)));
        return command;
    }

    private static void Run(string path, bool check, bool wantsJson)
    {
        string? folder = File.Exists(path) ? null : TrainedModel.Locate(path);
        JsonObject? config = folder is null ? null : ModelFolder.ReadConfig(folder);

        // Loading comes first: it is timed, and hashing leaves the files in the system's cache.
        Checked? loaded = check ? Load(folder ?? throw new InvalidInputException($"'{path}' is a file, but --check needs the configuration beside it; name the folder.")) : null;
        IReadOnlyList<WeightFile> files = [.. (folder is null ? [path] : ModelFolder.WeightFiles(folder)).Select(Read)];
        long bytes = files.Sum(file => file.Tensors.Sum(tensor => tensor.ByteLength));
        if (wantsJson)
        {
            JsonOutput.Write(new
            {
                Folder = folder,
                Parameters = files.Sum(file => file.Tensors.Sum(tensor => tensor.Count)),
                Bytes = bytes,
                LoadSeconds = loaded?.Seconds,
                NotFinite = loaded?.NotFinite,
                Config = config,
                Files = files.Select(file => new
                {
                    file.Path,
                    file.Bytes,
                    file.Sha256,
                    Tensors = file.Tensors.Select(tensor => new { tensor.Name, Dtype = tensor.Type.FileName(), tensor.Shape, Bytes = tensor.ByteLength }),
                }),
            });
            return;
        }

        Write(files);
        Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{files.Sum(file => file.Tensors.Count):#,0} tensors, {files.Sum(file => file.Tensors.Sum(tensor => tensor.Count)):#,0} values, {Units.Bytes(bytes)}"));
        if (config is not null)
        {
            Console.WriteLine();
            Console.WriteLine(config.ToJsonString(Indented));
        }

        if (loaded is { } model)
        {
            string values = model.NotFinite.Count == 0 ? "every value is finite" : $"values that are not finite are in {string.Join(", ", model.NotFinite)}";
            Console.WriteLine(string.Create(
                CultureInfo.InvariantCulture, $"every tensor of the configuration is there, {values}; loaded and looked through in {model.Seconds:0.00} s ({bytes / model.Seconds / 1e9:0.00} GB/s)"));
        }
    }

    private static void Write(IReadOnlyList<WeightFile> files)
    {
        if (Console.IsOutputRedirected)
        {
            AnsiConsole.Profile.Width = WidthOfPipes;
        }

        foreach (WeightFile file in files)
        {
            Table table = new Table().Border(TableBorder.Simple).AddColumns("tensor", "format", "shape").AddColumn(new TableColumn("bytes").RightAligned());
            foreach (SafetensorsEntry tensor in file.Tensors)
            {
                table.AddRow(
                    new Text(tensor.Name), new Text(tensor.Type.FileName()), new Text($"[{string.Join(", ", tensor.Shape)}]"), new Text(tensor.ByteLength.ToString("#,0", CultureInfo.InvariantCulture)));
            }

            AnsiConsole.Write(table);
            Console.WriteLine($"{file.Path}: {Units.Bytes(file.Bytes)}, SHA-256 {file.Sha256}");
        }
    }

    private static WeightFile Read(string path)
    {
        using var file = SafetensorsFile.Open(path);
        using var stream = new FileStream(path, FileMode.Open, FileAccess.Read, FileShare.Read | FileShare.Delete, HashBufferBytes, FileOptions.SequentialScan);
        return new WeightFile(path, stream.Length, Convert.ToHexStringLower(SHA256.HashData(stream)), [.. file.Entries]);
    }

    /// <summary>Loads a model as the other commands do, and looks at every value once, so that every page of the files was read.</summary>
    private static Checked Load(string folder)
    {
        long start = Stopwatch.GetTimestamp();
        using var device = new CpuDevice();
        using LanguageModel model = ModelFolder.Load(device, folder, mapped: true);
        var notFinite = new bool[model.Parameters.Count];
        Parallel.For(0, notFinite.Length, i => notFinite[i] = !IsFinite(model.Parameters[i].Value.Span<float>()));
        return new Checked(Stopwatch.GetElapsedTime(start).TotalSeconds, [.. model.Parameters.Where((_, i) => notFinite[i]).Select(parameter => parameter.Name)]);
    }

    /// <summary>Without their sign, the bits of finite numbers lie below those of infinity, and those of NaN above.</summary>
    private static bool IsFinite(ReadOnlySpan<float> values)
    {
        ReadOnlySpan<int> bits = MemoryMarshal.Cast<float, int>(values);
        const int Infinity = 0x7F800000, WithoutSign = 0x7FFFFFFF;
        Vector<int> greatest = Vector<int>.Zero;
        while (bits.Length >= Vector<int>.Count)
        {
            greatest = Vector.Max(greatest, new Vector<int>(bits) & new Vector<int>(WithoutSign));
            bits = bits[Vector<int>.Count..];
        }

        bool isFinite = Vector.LessThanAll(greatest, new Vector<int>(Infinity));
        foreach (int rest in bits)
        {
            isFinite &= (rest & WithoutSign) < Infinity;
        }

        return isFinite;
    }

    private sealed record Checked(double Seconds, IReadOnlyList<string> NotFinite);

    private sealed record WeightFile(string Path, long Bytes, string Sha256, IReadOnlyList<SafetensorsEntry> Tensors);
}
