using System.CommandLine;
using System.Diagnostics;
using System.Globalization;
using ExactFlow.Cli.Display;
using ExactFlow.Cli.Parsing;
using ExactFlow.Models;
using ExactFlow.Models.Text;
using ExactFlow.Tensors;
using ExactFlow.Tensors.Files;

namespace ExactFlow.Cli.Commands;

/// <summary><c>exactflow logits</c>: what a model says after every token, as a file, so that anyone can check it against another implementation.</summary>
internal static class LogitsCommand
{
    /// <summary>Rows whose logits exist at once: a long text times a large vocabulary would not fit.</summary>
    private const int RowsAtOnce = 512;

    /// <summary>Makes the command.</summary>
    public static Command Create()
    {
        Option<string> model = Settings.Required("--model", "folder of a model, a checkpoint or a run (its newest checkpoint); only --prompt needs a tokenizer in it", "DIR");
        Option<string?> prompt = Settings.Optional("--prompt", "text to read; nothing is put before it", "TEXT");
        var tokens = new Option<int[]>("--tokens") { Description = "token ids to read, one sequence", HelpName = "ID", AllowMultipleArgumentsPerToken = true };
        Option<string?> input = Settings.Optional("--input", "safetensors file with the ids of several sequences of one length: input_ids [batch, time], integers", "FILE");
        Option<string> output = Settings.Required("--output", "safetensors file to write: logits [batch, time, vocabulary], float32, and input_ids [batch, time], int64", "FILE");
        Option<string> precision = Settings.Precision();
        var command = new CliCommand("logits", "Writes a model's logits after every token of a text or of given ids, to check a model against another implementation.")
        {
            Examples =
            [
                ("exactflow logits --model runs/first --prompt \"Returns the\" --output logits.safetensors", "of a text"),
                ("exactflow logits --model runs/first --tokens 12 7 1031 --output logits.safetensors --json", "of token ids, for a script"),
                ("exactflow logits --model delta_net/ --input ids.safetensors --output logits.safetensors --device cuda --precision float32", "of a batch, on a GPU, in the CPU's arithmetic"),
            ],
        };
        foreach (Option option in (Option[])[model, prompt, tokens, input, output, precision])
        {
            command.Options.Add(option);
        }

        CommonOptions common = CommonOptions.AddTo(command);
        command.SetAction(parsed =>
        {
            using Device device = common.Open(parsed);
            string folder = TrainedModel.Locate(parsed.GetRequiredValue(model));
            (int[] ids, int rows) = Ids(folder, parsed.GetValue(prompt), parsed.GetValue(tokens) ?? [], parsed.GetValue(input));
            using LanguageModel loaded = ModelFolder.Load(device, folder, ModelPrecision.On(device, parsed.GetRequiredValue(precision)), mapped: true);
            Run(loaded, ids, rows, parsed.GetRequiredValue(output), common.WantsJson(parsed));
        });
        return command;
    }

    private static (int[] Ids, int Rows) Ids(string folder, string? prompt, int[] tokens, string? input)
    {
        int given = (prompt is null ? 0 : 1) + (tokens.Length == 0 ? 0 : 1) + (input is null ? 0 : 1);
        if (given != 1)
        {
            throw new InvalidInputException($"Logits need one thing to read, but {(given == 0 ? "none" : "several")} of --prompt, --tokens and --input {(given == 0 ? "is" : "are")} given; give exactly one.");
        }

        if (input is not null)
        {
            return FromFile(input);
        }

        int[] ids = prompt is null ? tokens : Encode(folder, prompt);
        return ids.Length > 0 ? (ids, 1) : throw new InvalidInputException("The text given with --prompt has no tokens; give a longer one.");
    }

    private static int[] Encode(string folder, string prompt)
    {
        BytePairTokenizer tokenizer = BytePairTokenizer.Load(Path.Combine(folder, ModelFolder.TokenizerFile));
        TrainedModel.RequireFit(tokenizer, ModelFolder.LoadConfig(folder), folder);
        return tokenizer.Encode(prompt);
    }

    private static (int[] Ids, int Rows) FromFile(string path)
    {
        using SafetensorsFile file = SafetensorsFile.Open(path);
        SafetensorsEntry entry = file["input_ids"];
        if (entry.Shape.Count != 2 || entry.Count == 0 || entry.Count > Array.MaxLength)
        {
            throw new InvalidInputException($"In '{path}', input_ids must have the shape [batch, time] with at least one token, but it is {entry}; reshape it.");
        }

        long[] wide = file.Read<long>(entry.Name);
        return (Array.ConvertAll(wide, id => (int)Math.Clamp(id, -1, int.MaxValue)), (int)entry.Shape[0]);
    }

    private static void Run(LanguageModel model, int[] ids, int rows, string output, bool wantsJson)
    {
        int vocabulary = model.Config.VocabularySize, length = ids.Length / rows;
        int strange = Array.FindIndex(ids, id => (uint)id >= (uint)vocabulary);
        if (strange >= 0)
        {
            throw new InvalidInputException($"Token {strange % length} of sequence {strange / length} is {ids[strange]}, but the model's vocabulary has {vocabulary} tokens, 0 to {vocabulary - 1}; encode the text with the model's own tokenizer.");
        }

        long start = Stopwatch.GetTimestamp();
        var last = new int[rows];
        using (var writer = new SafetensorsWriter(output, [new("logits", SafetensorsType.F32, [rows, length, vocabulary]), new("input_ids", SafetensorsType.I64, [rows, length])]))
        {
            writer.Write<long>("input_ids", Array.ConvertAll(ids, id => (long)id));
            for (int row = 0; row < rows; row++)
            {
                last[row] = WriteSequence(model, ids.AsSpan(row * length, length), writer);
            }

            writer.Commit();
        }

        double seconds = Stopwatch.GetElapsedTime(start).TotalSeconds;
        if (wantsJson)
        {
            JsonOutput.Write(new { Output = output, Shape = (int[])[rows, length, vocabulary], Likeliest = last, Seconds = seconds });
            return;
        }

        Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{output}: logits [{rows}, {length}, {vocabulary}] in {seconds:0.00} s; likeliest next {(rows == 1 ? "token" : "tokens")}: {string.Join(", ", last)}"));
    }

    /// <summary>Writes the logits of one sequence and returns the likeliest token after its last.</summary>
    private static int WriteSequence(LanguageModel model, ReadOnlySpan<int> ids, SafetensorsWriter writer)
    {
        using Tensor hidden = model.Device.Persistent([ids.Length, model.Config.HiddenSize], model.Precision);
        using (model.Device.BeginStep(recordGradients: false))
        {
            hidden.CopyFrom(model.Forward(model.Device.From(ids, [1, ids.Length])).Reshape(hidden.Shape));
        }

        int likeliest = 0;
        for (int first = 0; first < ids.Length; first += RowsAtOnce)
        {
            using var step = model.Device.BeginStep(recordGradients: false);
            float[] logits = model.Logits(hidden.Slice(first, Math.Min(RowsAtOnce, ids.Length - first))).ToHost<float>();
            writer.Write<float>("logits", logits);
            likeliest = IndexOfGreatest(logits.AsSpan(^model.Config.VocabularySize..));
        }

        return likeliest;
    }

    private static int IndexOfGreatest(ReadOnlySpan<float> values)
    {
        int best = 0;
        for (int i = 1; i < values.Length; i++)
        {
            best = values[i] > values[best] ? i : best;
        }

        return best;
    }
}
