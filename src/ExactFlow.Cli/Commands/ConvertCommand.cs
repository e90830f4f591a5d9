using System.CommandLine;
using System.Globalization;
using ExactFlow.Cli.Display;
using ExactFlow.Cli.Parsing;
using ExactFlow.Models;
using ExactFlow.Models.Text;
using ExactFlow.Tensors;
using ExactFlow.Tensors.Files;
using ExactFlow.Training.Checkpoints;

namespace ExactFlow.Cli.Commands;

/// <summary><c>exactflow convert</c>: a model or a checkpoint to a plain model folder in another number format, in one file or several.</summary>
internal static class ConvertCommand
{
    private const double Gigabyte = 1e9;

    /// <summary>What goes along as it is; weights, configuration and card are written anew.</summary>
    private static readonly string[] Companions =
    [
        ModelFolder.GenerationFile, ModelFolder.TokenizerFile, "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "tokenizer.model",
        "vocab.json", "merges.txt", "encoder.json", "vocab.bpe", "chat_template.jinja", "LICENSE",
    ];

    /// <summary>Makes the command.</summary>
    public static Command Create()
    {
        Option<string> model = Settings.Required("--model", "folder of a model, a checkpoint or a run (its newest checkpoint)", "DIR");
        Option<string> output = Settings.Required("--output", "folder to make", "DIR");
        Option<string> format = Settings.Choice("--dtype", "number format of the weights; rounding is to nearest, ties to even", "float32", ["float32", "float16", "bfloat16"]);
        Option<double> shard = Settings.Number("--shard-size", "gigabytes of weights in a file at most, with an index beside the files; 0 = one file", 0, 0, 1e6);
        var json = new Option<bool>("--json") { Description = "write one JSON document to standard output" };
        var command = new CliCommand("convert", "Writes a model or a checkpoint as a plain model folder: config.json, weights, tokenizer, and a model card. Every tensor is checked on the way.")
        {
            Examples =
            [
                ("exactflow convert --model runs/first --output first", "the newest checkpoint of a run, without what only training needs"),
                ("exactflow convert --model first --output first-bf16 --dtype bfloat16 --shard-size 2", "half the size, in files of at most 2 GB"),
            ],
        };
        foreach (Option option in (Option[])[model, output, format, shard, json])
        {
            command.Options.Add(option);
        }

        command.SetAction(parsed =>
        {
            SafetensorsType type = parsed.GetRequiredValue(format) switch { "float16" => SafetensorsType.F16, "bfloat16" => SafetensorsType.BF16, _ => SafetensorsType.F32 };
            string source = TrainedModel.Locate(parsed.GetRequiredValue(model)), target = parsed.GetRequiredValue(output);
            using var device = new CpuDevice();
            using LanguageModel loaded = ModelFolder.Load(device, source, mapped: true);
            RequireCompanions(loaded, source);
            string card = ModelCard.Write(loaded, source, parsed.GetRequiredValue(format), CommandText.Of(parsed));
            Write(loaded, source, target, type, (long)(parsed.GetRequiredValue(shard) * Gigabyte), card);
            long bytes = ModelFolder.WeightFiles(target).Sum(file => new FileInfo(file).Length);
            int files = ModelFolder.WeightFiles(target).Count;
            if (parsed.GetValue(json))
            {
                JsonOutput.Write(new { Folder = target, Dtype = type.FileName(), Parameters = loaded.ParameterCount, Files = files, Bytes = bytes });
                return;
            }

            Console.WriteLine(string.Create(
                CultureInfo.InvariantCulture, $"{target}: {loaded.ParameterCount:#,0} parameters in {parsed.GetRequiredValue(format)}, {Units.Bytes(bytes)} in {files} file{(files == 1 ? "" : "s")}"));
        });
        return command;
    }

    /// <summary>What goes along unchanged is read before, so that nothing damaged or foreign is handed on.</summary>
    private static void RequireCompanions(LanguageModel model, string source)
    {
        _ = ModelFolder.LoadGeneration(source);
        string tokenizer = Path.Combine(source, ModelFolder.TokenizerFile);
        if (File.Exists(tokenizer))
        {
            TrainedModel.RequireFit(BytePairTokenizer.Load(tokenizer), model.Config, source);
        }
    }

    /// <summary>Everything is written beside the target and renamed at the end: the folder appears whole or not at all.</summary>
    private static void Write(LanguageModel model, string source, string target, SafetensorsType type, long shardBytes, string card)
    {
        string full = Path.TrimEndingDirectorySeparator(Path.GetFullPath(target)), unfinished = full + ".writing";
        if (Path.Exists(full))
        {
            throw new InvalidInputException($"Cannot convert to '{target}': it exists already; name a new folder with --output.");
        }

        try
        {
            if (Directory.Exists(unfinished))
            {
                Directory.Delete(unfinished, recursive: true);
            }

            ModelFolder.Save(model, unfinished, format: type, shardBytes: shardBytes);
            foreach (string name in Companions.Where(name => File.Exists(Path.Combine(source, name))))
            {
                File.Copy(Path.Combine(source, name), Path.Combine(unfinished, name), overwrite: true);
            }

            AtomicFile.WriteAllText(Path.Combine(unfinished, ModelCard.FileName), card);
            Directory.Move(unfinished, full);
        }
        catch
        {
            if (Directory.Exists(unfinished))
            {
                Directory.Delete(unfinished, recursive: true);
            }

            throw;
        }
    }
}
