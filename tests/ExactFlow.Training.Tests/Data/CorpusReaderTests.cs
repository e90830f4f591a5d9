using System.IO.Compression;
using System.Text;
using ExactFlow.Tensors;
using ExactFlow.Tensors.Randomness;
using ExactFlow.Training.Data;

namespace ExactFlow.Training.Tests.Data;

public sealed class CorpusReaderTests : IDisposable
{
    private readonly TemporaryFolder folder = new();

    [Fact]
    public void AFileOfTextIsOneDocumentEndedByALineFeed()
    {
        File.WriteAllText(folder["a.txt"], "one\ntwo");
        File.WriteAllText(folder["b.txt"], "three\n");
        File.WriteAllBytes(folder["c.txt"], [0xEF, 0xBB, 0xBF, .. "marked"u8]);
        File.WriteAllBytes(folder["d.txt"], []);
        Assert.Equal(["one\ntwo\n", "three\n", "marked\n"], Read());
    }

    [Fact]
    public void LinesThatStartSoBeginDocuments()
    {
        File.WriteAllText(folder["a.txt"], "# Title: A\nfirst # Title: no\n# Title: B\n# Title: C\nlast");
        Assert.Equal(["# Title: A\nfirst # Title: no\n", "# Title: B\n", "# Title: C\nlast\n"], Read("# Title:"));
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void LinesOfAnyLengthComeWholeAndInOrder(bool compressed)
    {
        // Lines around the size of a batch and of its multiples, and many short ones.
        int[] lengths = [.. Enumerable.Range(0, 5000).Select(i => i % 97), (1 << 20) - 2, 1 << 20, 3, (1 << 21) + 1, 1];
        string[] lines = [.. lengths.Select((length, i) => new string((char)('a' + (i % 26)), length) + "\n")];
        using (Stream file = File.Create(folder[compressed ? "a.jsonl.gz" : "a.jsonl"]))
        using (Stream stream = compressed ? new GZipStream(file, CompressionLevel.Fastest) : file)
        {
            stream.Write(Encoding.UTF8.GetBytes(string.Concat(lines)));
        }

        Assert.Equal(lines, Read());
    }

    [Fact]
    public void ALongTextIsCutAtLines()
    {
        var random = new Philox(1, 1);
        StringBuilder text = new();
        for (ulong i = 0; text.Length < (CorpusReader.LongestDocument * 5) / 2; i++)
        {
            text.Append('x', random.Below(i, 3000)).Append('\n');
        }

        File.WriteAllText(folder["long.txt"], text.ToString());
        string[] documents = Read();
        Assert.Equal(text.ToString(), string.Concat(documents));
        Assert.InRange(documents.Length, 3, 4);
        Assert.All(documents, document => Assert.True(document.EndsWith('\n') && document.Length <= CorpusReader.LongestDocument));
    }

    [Fact]
    public void ATextWithoutLinesOrWordsIsCutBetweenCharacters()
    {
        string text = new('é', (CorpusReader.LongestDocument / 2) + 5);
        File.WriteAllText(folder["long.txt"], "x" + text);
        Assert.Equal("x" + text + "\n", string.Concat(Read()));
    }

    [Fact]
    public void ReadingGoesOnFromAnyPlace()
    {
        File.WriteAllText(folder["a.jsonl"], string.Concat(Enumerable.Range(0, 9).Select(i => $"{i}\n")));
        File.WriteAllText(folder["b.txt"], "b");
        string[] all = Read();
        for (int first = 0; first < 9; first++)
        {
            Assert.Equal(all[first..], Read(from: new CorpusPosition(0, first)));
        }

        Assert.Equal(["b\n"], Read(from: new CorpusPosition(1, 0)));
    }

    [Fact]
    public void ADamagedGzipFileIsRefused()
    {
        using (GZipStream stream = new(File.Create(folder["a.jsonl.gz"]), CompressionLevel.Optimal))
        {
            stream.Write(Encoding.UTF8.GetBytes(string.Concat(Enumerable.Range(0, 100_000).Select(i => $"{{\"text\":\"{i * 7919}\"}}\n"))));
        }

        byte[] whole = File.ReadAllBytes(folder["a.jsonl.gz"]);
        foreach (byte[] damaged in (byte[][])[whole[..(whole.Length / 2)], whole[..^4], [.. whole[..1000], (byte)(whole[1000] ^ 255), .. whole[1001..]], "not gzip"u8.ToArray()])
        {
            File.WriteAllBytes(folder["a.jsonl.gz"], damaged);
            Assert.Contains("damaged or cut off", Assert.Throws<InvalidInputException>(() => Read()).Message, StringComparison.Ordinal);
        }
    }

    [Fact]
    public void ABinaryFileIsRefusedWithThePlace()
    {
        File.WriteAllBytes(folder["a.txt"], [.. "text"u8, 0, 1]);
        Assert.Contains("byte 4 is zero", Assert.Throws<InvalidInputException>(() => Read()).Message, StringComparison.Ordinal);
    }

    public void Dispose() => folder.Dispose();

    private string[] Read(string? documentStart = null, CorpusPosition from = default)
    {
        List<string> entries = [];
        foreach (CorpusBatch batch in new CorpusReader(CorpusFiles.Find([folder.Path]), documentStart).Read(from))
        {
            using (batch)
            {
                for (int i = batch.Skip; i < batch.Count; i++)
                {
                    entries.Add(Encoding.UTF8.GetString(batch[i]));
                }
            }
        }

        return [.. entries];
    }
}
