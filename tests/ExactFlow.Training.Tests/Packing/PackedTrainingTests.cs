using ExactFlow.Operators;
using ExactFlow.Tensors;
using ExactFlow.Tensors.Autograd;
using ExactFlow.Training.Data;
using ExactFlow.Training.Options;
using ExactFlow.Training.Packing;

namespace ExactFlow.Training.Tests.Packing;

public sealed class PackedTrainingTests
{
    private const string Length = "data.sequence_length=70";

    public static TheoryData<string> Gpus => [.. CudaTestDevices.Names];

    [Theory]
    [InlineData(7)]
    [InlineData(64)]
    [InlineData(300)]
    public void WindowsAndDocumentStartsAreThoseOfTheWholeText(int length)
    {
        using PackingSession session = new();
        using PackedCorpus corpus = session.Pack();
        PackedTokens packed = DocumentSplit.All(corpus);
        int[] all = [.. session.Texts.SelectMany(session.Expected)];
        HashSet<long> begins = [.. session.Texts.Select(text => (long)session.Expected(text).Length).Aggregate(new List<long> { 0 }, (starts, tokens) => [.. starts, starts[^1] + tokens])];
        TokenStream mapped = new(packed, length, 5, separatesDocuments: true), inMemory = new(all, length, 5);
        MemoryTokens memory = new(all, [.. begins.Select(begin => (int)begin).Order()]);
        TokenStream apart = new(memory, length, 5, separatesDocuments: true);
        Assert.Equal(inMemory.WindowsPerEpoch, mapped.WindowsPerEpoch);
        Assert.Null(inMemory.Documents(0, 3));
        int[] inputs = new int[3 * length], targets = new int[3 * length], expectedInputs = new int[3 * length], expectedTargets = new int[3 * length];
        for (long position = 0; position < 2L * mapped.WindowsPerEpoch; position += 3)
        {
            mapped.Read(position, inputs, targets);
            inMemory.Read(position, expectedInputs, expectedTargets);
            Assert.Equal(expectedInputs, inputs);
            Assert.Equal(expectedTargets, targets);

            // Every window begins anew, and so does every token that begins documents, which stands nowhere else.
            int[] expected = [.. Enumerable.Range(0, 3 * length).Where(i => i % length == 0 || inputs[i] == corpus.Manifest.DocumentToken), 3 * length];
            Assert.Equal(expected, mapped.Documents(position, 3)!.Span.ToArray());
            Assert.Equal(expected, apart.Documents(position, 3)!.Span.ToArray());
        }
    }

    [Theory]
    [InlineData(0.05)]
    [InlineData(0.3)]
    public void DocumentsAreHeldOutWholeAndCopiesTogether(double fraction)
    {
        using PackingSession session = new();
        File.AppendAllLines(session.Source, File.ReadAllLines(session.Source)[..100]);
        using PackedCorpus corpus = session.Pack();
        (PackedTokens training, PackedTokens heldOut) = DocumentSplit.Divide(corpus, fraction);
        Assert.Equal(corpus.Tokens, training.Count + heldOut.Count);
        Assert.Equal(corpus.Documents, training.Documents + heldOut.Documents);
        Assert.InRange(heldOut.Count, 0.85 * fraction * corpus.Tokens, 1.5 * fraction * corpus.Tokens);
        HashSet<string> trained = Texts(training, corpus), held = Texts(heldOut, corpus);
        Assert.DoesNotContain(trained, held.Contains);
        Assert.Equal(session.Texts.Distinct().Order(StringComparer.Ordinal), trained.Concat(held).Order(StringComparer.Ordinal));

        // The order of the text changes nothing.
        File.WriteAllLines(session["reversed.jsonl"], File.ReadAllLines(session.Source).Reverse());
        using PackedCorpus reversed = session.Pack(session.Options with { Text = [session["reversed.jsonl"]], Output = session["reversed"] });
        Assert.Equal(held, Texts(DocumentSplit.Divide(reversed, fraction).HeldOut, reversed));
    }

    [Fact]
    public void TheEndOfASingleDocumentIsHeldOut()
    {
        using PackingSession session = new();
        File.WriteAllText(session["one.txt"], string.Join(' ', session.Texts));
        using PackedCorpus corpus = session.Pack(session.Options with { Text = [session["one.txt"]] });
        (PackedTokens training, PackedTokens heldOut) = DocumentSplit.Divide(corpus, 0.1);
        Assert.Equal((1, 1), (training.Documents, heldOut.Documents));
        Assert.Equal((long)(corpus.Tokens * 0.1), heldOut.Count);
        int[] all = new int[corpus.Tokens], parts = new int[corpus.Tokens];
        corpus.Read(0, all);
        training.Copy(0, parts.AsSpan(0, (int)training.Count));
        heldOut.Copy(0, parts.AsSpan((int)training.Count));
        Assert.Equal(all, parts);
    }

    /// <summary>The loss of packed windows is that of their documents read alone, one by one.</summary>
    [Theory]
    [InlineData("efla")]
    [InlineData("gated_efla")]
    [InlineData("mamba2")]
    [InlineData("softmax_attention")]
    public void NoDocumentSeesAnother(string rule)
    {
        using PackingSession session = new(mostWords: 12);
        session.Pack().Dispose();
        TrainingOptions options = Options(session, "documents", $"model.rule={rule}");
        TokenizedText text = TokenizedText.Prepare(options.Data, TextSource.Load(options.Data), session["none"], 1);
        using CpuDevice device = new(2) { PoisonFreshMemory = true };
        using LanguageModelTask task = new(device, options, text);
        int[] inputs = new int[140], targets = new int[140];
        text.Training.Read(3, inputs, targets);
        SequenceOffsets documents = text.Training.Documents(3, 2)!;
        Assert.True(documents.Count > 6);
        using Step step = device.BeginStep();
        double packed = task.Loss(device.From<int>(inputs, [1, 140]), device.From<int>(targets, [1, 140]), documents).Item();
        double alone = 0;
        for (int i = 0; i < documents.Count; i++)
        {
            Range range = documents.Start(i)..documents.End(i);
            int length = documents.End(i) - documents.Start(i);
            alone += length * (double)task.Loss(device.From<int>(inputs[range], [1, length]), device.From<int>(targets[range], [1, length])).Item();
        }

        Assert.Equal(alone / 140, packed, 5e-6);
        Assert.NotEqual(task.Loss(device.From<int>(inputs, [2, 70]), device.From<int>(targets, [2, 70])).Item(), packed, 2e-5);
    }

    [Theory]
    [InlineData("stream")]
    [InlineData("documents")]
    public void ARunGoesOnAtTheTokenWhereItStopped(string packing)
    {
        using PackingSession session = new();
        session.Pack().Dispose();
        TrainingOptions options = Options(session, packing, "data.accumulation=2", "evaluation.every=2");
        using LanguageModelSession unbroken = new LanguageModelSession(new CpuDevice(2), options).Train();
        using TemporaryFolder folder = new();
        using (LanguageModelSession first = new(new CpuDevice(2), options, folder))
        {
            first.Trainer.Begin();
            first.Trainer.RunStep();
            first.Trainer.Stop();
        }

        using LanguageModelSession resumed = new(new CpuDevice(2), options, folder);
        resumed.Trainer.Resume("auto");
        resumed.Trainer.Run(CancellationToken.None);
        Assert.Equal(unbroken.Metrics(), resumed.Metrics());
        Assert.Equal(unbroken.Weights(), resumed.Weights());
    }

    [Fact]
    public void ACheckpointDoesNotGoOnWithAnotherCorpusOrPacking()
    {
        using PackingSession session = new();
        session.Pack().Dispose();
        session.Pack(session.Options with { ShardTokens = 5000, Output = session["other"] }).Dispose();
        using TemporaryFolder folder = new();
        TrainingOptions options = Options(session, "documents");
        using (LanguageModelSession first = new(new CpuDevice(2), options, folder))
        {
            first.Trainer.Begin();
            first.Trainer.RunStep();
            first.Trainer.Stop();
        }

        Refused("data.packing", Options(session, "stream"));
        Refused("data.packed", options with { Data = options.Data with { Packed = session["other"] } });
        File.WriteAllLines(session["more.jsonl"], File.ReadAllLines(session.Source).Append("{\"text\":\"and one more\"}"));
        session.Pack(session.Options with { Text = [session["more.jsonl"]], Output = session["packed2"] }).Dispose();
        Directory.Delete(session.Output, recursive: true);
        Directory.Move(session["packed2"], session.Output);
        Refused("another text", options);

        void Refused(string expected, TrainingOptions changed)
        {
            using LanguageModelSession resumed = new(new CpuDevice(2), changed, folder);
            Assert.Contains(expected, Assert.Throws<InvalidInputException>(() => resumed.Trainer.Resume("step-000001")).Message, StringComparison.Ordinal);
        }
    }

    [Fact]
    public void WhatDoesNotBelongTogetherIsRefused()
    {
        using PackingSession session = new();
        File.WriteAllText(session["second.txt"], "a second file, and with it a second shard");
        session.Pack(session.Options with { Text = [session.Source, session["second.txt"]] }).Dispose();
        DataOptions data = Options(session, "stream").Data;
        Refused("Both data.text", data with { Text = [session.Source] });
        File.WriteAllText(session["other.json"], File.ReadAllText(session.TokenizerPath) + " ");
        Refused("another tokenizer", data with { Tokenizer = session["other.json"] });
        Refused("no packed corpus", data with { Packed = session["nowhere"] });

        Assert.NotEmpty(TextSource.Load(data with { Tokenizer = session.TokenizerPath }).Validation.ToArray());
        string shard = Path.Combine(session.Output, "shard-00001.tokens");
        byte[] whole = File.ReadAllBytes(shard);
        File.WriteAllBytes(shard, whole[..^1]);
        Refused("damaged or cut off", data);
        whole[ShardHeader.Size + 6] ^= 1;
        File.WriteAllBytes(shard, whole);
        TextCorpus text = TextSource.Load(data);
        Assert.Contains("SHA-256", Assert.Throws<InvalidInputException>(() => TokenizedText.Prepare(data, text, session["none"], 1)).Message, StringComparison.Ordinal);
        File.Copy(Path.Combine(session.Output, "shard-00000.tokens"), shard, overwrite: true);
        Refused("not the one that its corpus lists", data);
        File.AppendAllText(Path.Combine(session.Output, "tokenizer.json"), " ");
        Refused("not the one that the corpus was packed with", data);

        static void Refused(string expected, DataOptions options) => Assert.Contains(expected, Assert.Throws<InvalidInputException>(() => TextSource.Load(options)).Message, StringComparison.Ordinal);
    }

    [Theory]
    [MemberData(nameof(Gpus))]
    public void AGpuKeepsDocumentsApartToo(string device)
    {
        using PackingSession session = new();
        session.Pack().Dispose();
        TrainingOptions options = Options(session, "documents", "data.accumulation=2", "model.precision=float32");
        using LanguageModelSession actual = new LanguageModelSession(CudaTestDevices.Open(device), options).Train();
        using LanguageModelSession expected = new LanguageModelSession(new CpuDevice(2), options).Train();
        Assert.All(expected.Losses().Zip(actual.Losses()), pair => Assert.Equal(1, pair.Second / pair.First, 1e-4));
    }

    private static TrainingOptions Options(PackingSession session, string packing, params string[] more)
        => LanguageModelSession.Options([$"data.packed={session.Output}", $"data.packing={packing}", "data.validation_fraction=0.1", Length, .. more]);

    private static HashSet<string> Texts(PackedTokens tokens, PackedCorpus corpus)
    {
        var all = new int[tokens.Count];
        tokens.Copy(0, all);
        return [.. corpus.LoadTokenizer().Decode(all).Split(TokenizedText.EndOfTextToken, StringSplitOptions.RemoveEmptyEntries)];
    }
}
