using System.Text;
using System.Text.Json;
using ExactFlow.Models.Text;
using ExactFlow.Tensors.Randomness;
using ExactFlow.Training.Packing;

namespace ExactFlow.Training.Tests.Packing;

/// <summary>A folder with JSON lines of made-up words, a tokenizer trained on them, and what packing makes of them.</summary>
internal sealed class PackingSession : IDisposable
{
    private static readonly string[] Words = ["the", "state", "of", "a", "flow", "decays", "while", "keys", "write", "values", "into", "it", "and", "queries", "read", "them", "é", "😀"];
    private readonly TemporaryFolder folder = new();

    public PackingSession(int documents = 300, int mostWords = 60)
    {
        var random = new Philox(11, 4);
        ulong position = 0;
        Texts = [.. Enumerable.Range(0, documents).Select(_ => string.Join(' ', Enumerable.Range(0, 1 + random.Below(position++, mostWords)).Select(_ => Words[random.Below(position++, Words.Length)])))];
        File.WriteAllLines(Source, Texts.Select(text => JsonSerializer.Serialize(new { text })));
        Tokenizer = BytePairTokenizer.Train([Encoding.UTF8.GetBytes(string.Join('\n', Texts))], 300, [TokenizedText.EndOfTextToken]);
        Tokenizer.Save(TokenizerPath);
        Tokenizer = BytePairTokenizer.Load(TokenizerPath);
    }

    public string[] Texts { get; }

    public BytePairTokenizer Tokenizer { get; }

    public string Source => folder["text.jsonl"];

    public string TokenizerPath => folder["tokenizer.json"];

    public string Output => folder["packed"];

    public string this[string name] => folder[name];

    public PackOptions Options => new() { Text = [Source], Tokenizer = TokenizerPath, Output = Output, ShardTokens = 1000, Threads = 2 };

    public PackedCorpus Pack(PackOptions? options = null)
    {
        Assert.True(new CorpusPacker(options ?? Options).Run(CancellationToken.None));
        return PackedCorpus.Open((options ?? Options).Output).Verify();
    }

    /// <summary>The tokens of a document by another way than packing.</summary>
    public int[] Expected(string text) => [Tokenizer.SpecialTokens[TokenizedText.EndOfTextToken], .. Tokenizer.Encode(text, recogniseSpecialTokens: false)];

    public static int[] Document(PackedCorpus corpus, long document)
    {
        var ids = new int[corpus.Start(document + 1) - corpus.Start(document)];
        corpus.Read(corpus.Start(document), ids);
        return ids;
    }

    public Dictionary<string, byte[]> Files(string output) => Directory.GetFiles(output).ToDictionary(file => Path.GetFileName(file), File.ReadAllBytes, StringComparer.Ordinal);

    public void Dispose() => folder.Dispose();
}
