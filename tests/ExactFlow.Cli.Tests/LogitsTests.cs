using System.Globalization;
using System.Text.Json;
using ExactFlow.Models;
using ExactFlow.Models.Text;
using ExactFlow.Tensors.Files;

namespace ExactFlow.Cli.Tests;

/// <summary><c>exactflow logits</c> on a model trained for a few steps.</summary>
public sealed class LogitsTests : IClassFixture<TrainedFixture>
{
    private readonly TrainedFixture trained;
    private readonly string model;

    public LogitsTests(TrainedFixture trained)
    {
        this.trained = trained;
        model = trained["model"];
        if (!Directory.Exists(model))
        {
            CliProcess.Run(trained.Folder, ["convert", "--model", "runs/first", "--output", "model"]).ShouldSucceed();
        }
    }

    [Fact]
    public void They_give_the_loss_that_eval_measures()
    {
        var tokenizer = BytePairTokenizer.Load(Path.Combine(model, ModelFolder.TokenizerFile));
        byte[] bytes = [.. File.ReadAllBytes(trained["text.txt"])[..200], (byte)'\n'];
        int[] text = tokenizer.Encode(bytes, recogniseSpecialTokens: false);
        File.WriteAllBytes(trained["short.txt"], bytes);
        LanguageModelConfig config = ModelFolder.LoadConfig(model);
        int[] ids = [(config.BeginToken ?? config.EndToken)!.Value, .. text];
        float[] logits = Logits("--tokens", ids);
        double nats = 0;
        for (int i = 0; i < text.Length; i++)
        {
            ReadOnlySpan<float> row = logits.AsSpan(i * config.VocabularySize, config.VocabularySize);
            double sum = 0;
            foreach (float value in row)
            {
                sum += Math.Exp(value);
            }

            nats += Math.Log(sum) - row[text[i]];
        }

        CliResult result = CliProcess.Run(trained.Folder, ["eval", "--model", "model", "--text", "short.txt", "--window", "256", "--json"]).ShouldSucceed();
        using var document = JsonDocument.Parse(result.Output);
        Assert.Equal(text.Length, document.RootElement.GetProperty("tokens").GetInt32());
        Assert.Equal(document.RootElement.GetProperty("loss").GetDouble(), nats / text.Length, 1e-5);
    }

    [Fact]
    public void A_batch_from_a_file_is_each_sequence_alone_and_a_prompt_is_its_tokens()
    {
        int[] one = [3, 4, 5, 6, 7], two = [9, 8, 3, 3, 3];
        WriteIds("ids.safetensors", [2, 5], [.. one, .. two]);
        CliResult result = CliProcess.Run(trained.Folder, ["logits", "--model", "model", "--input", "ids.safetensors", "--output", "batch.safetensors", "--json"]).ShouldSucceed();
        using SafetensorsFile file = SafetensorsFile.Open(trained["batch.safetensors"]);
        float[] batch = file.Read<float>("logits");
        Assert.Equal([.. one, .. two], file.Read<long>("input_ids").Select(id => (int)id));
        float[] first = Logits("--tokens", one), second = Logits("--tokens", two);
        Assert.Equal([.. first, .. second], batch);
        using var document = JsonDocument.Parse(result.Output);
        int vocabulary = batch.Length / 10;
        Assert.Equal([2, 5, vocabulary], document.RootElement.GetProperty("shape").EnumerateArray().Select(extent => extent.GetInt32()));
        Assert.Equal(Greatest(second[^vocabulary..]), document.RootElement.GetProperty("likeliest")[1].GetInt32());

        int[] prompt = BytePairTokenizer.Load(Path.Combine(model, ModelFolder.TokenizerFile)).Encode("the end");
        CliProcess.Run(trained.Folder, ["logits", "--model", "model", "--prompt", "the end", "--output", "prompt.safetensors"]).ShouldSucceed();
        using SafetensorsFile prompted = SafetensorsFile.Open(trained["prompt.safetensors"]);
        Assert.Equal(Logits("--tokens", prompt), prompted.Read<float>("logits"));
    }

    [Fact]
    public void Only_a_prompt_needs_the_tokenizer()
    {
        string bare = trained["bare"];
        Directory.CreateDirectory(bare);
        foreach (string name in (string[])[ModelFolder.ConfigFile, ModelFolder.WeightsFile])
        {
            File.Copy(Path.Combine(model, name), Path.Combine(bare, name), overwrite: true);
        }

        CliProcess.Run(trained.Folder, ["logits", "--model", "bare", "--tokens", "1", "2", "--output", "bare.safetensors"]).ShouldSucceed();
        CliProcess.Run(trained.Folder, ["logits", "--model", "bare", "--prompt", "the", "--output", "bare2.safetensors"]).ShouldBeRefused("tokenizer.json");
    }

    [Fact]
    public void What_cannot_be_read_is_refused_and_nothing_is_written()
    {
        Refused([], "none of --prompt, --tokens and --input is given");
        Refused(["--tokens", "1", "--prompt", "the"], "several of --prompt, --tokens and --input are given");
        Refused(["--tokens", "1", "2", "99999"], "Token 2 of sequence 0 is 99999");
        Refused(["--tokens", "-1"], "is -1");
        Refused(["--prompt", ""], "has no tokens");
        WriteIds("flat.safetensors", [4], [1, 2, 3, 4]);
        Refused(["--input", "flat.safetensors"], "input_ids", "[batch, time]");
        Refused(["--input", "absent.safetensors"], "absent.safetensors");
        Assert.False(File.Exists(trained["refused.safetensors"]));
    }

    private static int Greatest(ReadOnlySpan<float> row)
    {
        int best = 0;
        for (int i = 1; i < row.Length; i++)
        {
            best = row[i] > row[best] ? i : best;
        }

        return best;
    }

    private void Refused(string[] arguments, params string[] parts)
        => CliProcess.Run(trained.Folder, ["logits", "--model", "model", .. arguments, "--output", "refused.safetensors"]).ShouldBeRefused(parts);

    private float[] Logits(string option, int[] ids)
    {
        CliProcess.Run(trained.Folder, ["logits", "--model", "model", option, .. ids.Select(id => id.ToString(CultureInfo.InvariantCulture)), "--output", "logits.safetensors"]).ShouldSucceed();
        using SafetensorsFile file = SafetensorsFile.Open(trained["logits.safetensors"]);
        return file.Read<float>("logits");
    }

    private void WriteIds(string name, long[] shape, long[] ids)
    {
        using var writer = new SafetensorsWriter(trained[name], [new SafetensorsEntry("input_ids", SafetensorsType.I64, shape)]);
        writer.Write<long>("input_ids", ids);
        writer.Commit();
    }
}
