using System.Security.Cryptography;
using System.Text;
using ExactFlow.Models.Text;
using ExactFlow.Tensors;
using ExactFlow.Training.Packing;

namespace ExactFlow.Training.Tests.Packing;

public sealed class CorpusPackerTests
{
    [Theory]
    [InlineData(1)]
    [InlineData(3)]
    public void EveryDocumentIsItsEncodingBehindTheDocumentToken(int threads)
    {
        using PackingSession session = new();
        using PackedCorpus corpus = session.Pack(session.Options with { Threads = threads });
        Assert.Equal(session.Texts.Length, corpus.Documents);
        for (int i = 0; i < session.Texts.Length; i++)
        {
            Assert.Equal(session.Expected(session.Texts[i]), PackingSession.Document(corpus, i));
            Assert.Equal(BitConverter.ToUInt64(SHA256.HashData(Encoding.UTF8.GetBytes(session.Texts[i]))), corpus.Key(i));
        }

        Assert.Equal(session.Texts.Sum(Encoding.UTF8.GetByteCount), corpus.TextBytes);
    }

    [Fact]
    public void ManyFilesMakeManyShardsThatReadAsOne()
    {
        using PackingSession session = new();
        string[] names = WriteFiles(session);
        using PackedCorpus corpus = session.Pack(session.Options with { Text = [session["many"]], ShardTokens = 200 });
        Assert.True(corpus.Shards.Count > 5);
        int[] all = [.. names.SelectMany(name => session.Expected(File.ReadAllText(name) + "\n"))];
        var read = new int[all.Length];
        corpus.Read(0, read);
        Assert.Equal(all, read);
    }

    [Theory]
    [InlineData(1)]
    [InlineData(17)]
    [InlineData(29)]
    public void APackingThatWasStoppedGoesOnToTheSameFiles(int stopAfter)
    {
        using PackingSession session = new();
        WriteFiles(session);
        PackOptions options = session.Options with { Text = [session["many"]], ShardTokens = 100 };
        session.Pack(options).Dispose();

        PackOptions again = options with { Output = session["again"] };
        using CancellationTokenSource stop = new();
        int batches = 0;
        Assert.False(new CorpusPacker(again, _ => Stop()).Run(stop.Token));
        Assert.Contains("not finished", Assert.Throws<InvalidInputException>(() => PackedCorpus.Open(again.Output)).Message, StringComparison.Ordinal);
        CorpusPacker rest = new(again);
        Assert.Equal(File.Exists(Path.Combine(again.Output, "shard-00000.tokens")), rest.GoesOn);
        Assert.True(rest.Run(CancellationToken.None));
        Assert.Equal(session.Files(options.Output), session.Files(again.Output));

        void Stop()
        {
            if (++batches == stopAfter)
            {
                stop.Cancel();
            }
        }
    }

    [Fact]
    public void AWholeCorpusIsLeftAsItIs()
    {
        using PackingSession session = new();
        session.Pack().Dispose();
        DateTime written = File.GetLastWriteTimeUtc(Path.Combine(session.Output, "shard-00000.tokens"));
        session.Pack().Dispose();
        Assert.Equal(written, File.GetLastWriteTimeUtc(Path.Combine(session.Output, "shard-00000.tokens")));
    }

    [Fact]
    public void TwoPackingsDoNotWriteIntoOneFolder()
    {
        using PackingSession session = new();
        WriteFiles(session);
        PackOptions options = session.Options with { Text = [session["many"]], ShardTokens = 100 };
        CorpusPacker second = new(options);
        bool refused = false;
        Assert.True(new CorpusPacker(options, _ => TrySecond()).Run(CancellationToken.None));
        Assert.True(refused);
        using PackedCorpus corpus = PackedCorpus.Open(options.Output).Verify();

        void TrySecond()
        {
            if (!refused)
            {
                Assert.Contains("another packing", Assert.Throws<InvalidInputException>(() => second.Run(CancellationToken.None)).Message, StringComparison.Ordinal);
                refused = true;
            }
        }
    }

    [Fact]
    public void OtherOptionsForTheSameFolderAreRefused()
    {
        using PackingSession session = new();
        session.Pack().Dispose();
        File.WriteAllText(session["other.jsonl"], "{\"text\":\"one\"}\n");
        BytePairTokenizer.Train(["another text for another tokenizer"u8.ToArray()], 270, [TokenizedText.EndOfTextToken]).Save(session["other.json"]);
        Refused("another tokenizer", session.Options with { Tokenizer = session["other.json"] });
        Refused("the field 'text' instead of 'content'", session.Options with { Field = "content" });
        Refused("other files", session.Options with { Text = [session.Source, session["other.jsonl"]] });
        Refused("shards of 1000 tokens instead of 5", session.Options with { ShardTokens = 5 });
        File.AppendAllText(session.Source, "{\"text\":\"more\"}\n");
        Refused("is not the same now", session.Options);

        static void Refused(string expected, PackOptions options) => Assert.Contains(expected, Assert.Throws<InvalidInputException>(() => new CorpusPacker(options)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void AFolderWithOtherThingsIsLeftAlone()
    {
        using PackingSession session = new();
        Directory.CreateDirectory(session.Output);
        File.WriteAllText(Path.Combine(session.Output, "mine"), "mine");
        Assert.Contains("something else is there", Assert.Throws<InvalidInputException>(() => new CorpusPacker(session.Options)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void AnErrorBeforeTheFirstShardLeavesNothing()
    {
        using PackingSession session = new();
        Assert.Contains("no field 'content'", Assert.Throws<InvalidInputException>(() => session.Pack(session.Options with { Field = "content" })).Message, StringComparison.Ordinal);
        Assert.False(Directory.Exists(session.Output));
        File.WriteAllText(session["empty.txt"], "");
        Assert.Contains("nothing to pack", Assert.Throws<InvalidInputException>(() => session.Pack(session.Options with { Text = [session["empty.txt"]] })).Message, StringComparison.Ordinal);
        Assert.False(Directory.Exists(session.Output));
    }

    [Fact]
    public void ATokenizerWithoutTheDocumentTokenIsRefused()
    {
        using PackingSession session = new();
        Assert.Contains("<|nowhere|>", Assert.Throws<InvalidInputException>(() => new CorpusPacker(session.Options with { DocumentToken = "<|nowhere|>" })).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void BooksAreDocumentsThatDecodeToThemselves()
    {
        string books = SharedData.Find("books/valid.txt"), tokenizer = SharedData.Find("tokenizers/gpt2");
        using PackingSession session = new(documents: 1);
        using PackedCorpus corpus = session.Pack(session.Options with { Text = [books], Tokenizer = tokenizer, DocumentStart = "# Title: ", ShardTokens = PackOptions.DefaultShardTokens });
        Assert.Equal(10, corpus.Documents);
        BytePairTokenizer gpt2 = corpus.LoadTokenizer();
        string text = string.Concat(Enumerable.Range(0, 10).Select(i => gpt2.Decode(PackingSession.Document(corpus, i).AsSpan(1))));
        Assert.Equal(File.ReadAllText(books).TrimEnd('\n'), text.TrimEnd('\n'));
        Assert.Equal(BytePairTokenizer.Load(tokenizer).Encode(File.ReadAllText(books).Split("\n# Title: ")[3].Insert(0, "# Title: ") + "\n"), PackingSession.Document(corpus, 3)[1..]);
    }

    [Fact]
    public void QuestionsOfBoolQArePackedByField()
    {
        string questions = SharedData.Find("boolq/validation.jsonl");
        using PackingSession session = new(documents: 1);
        using PackedCorpus corpus = session.Pack(session.Options with { Text = [questions], Field = "question" });
        string[] lines = File.ReadAllLines(questions);
        Assert.Equal(lines.Length, corpus.Documents);
        using var line = System.Text.Json.JsonDocument.Parse(lines[77]);
        Assert.Equal(session.Expected(line.RootElement.GetProperty("question").GetString()!), PackingSession.Document(corpus, 77));
    }

    private static string[] WriteFiles(PackingSession session)
    {
        Directory.CreateDirectory(session["many"]);
        string[] names = [.. Enumerable.Range(0, 30).Select(i => session[$"many/{i:00}.txt"])];
        for (int i = 0; i < names.Length; i++)
        {
            File.WriteAllText(names[i], session.Texts[i]);
        }

        return names;
    }
}
