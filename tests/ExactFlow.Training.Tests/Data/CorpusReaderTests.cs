using System.IO.Compression;
using System.Text;
using System.Text.Json;
using ExactFlow.Tensors;
using ExactFlow.Tensors.Randomness;
using ExactFlow.Training.Data;
using Parquet;
using Parquet.Schema;
using ZstdSharp;
using ZstdSharp.Unsafe;

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
    [InlineData("a.jsonl")]
    [InlineData("a.jsonl.gz")]
    [InlineData("a.jsonl.zst")]
    public void LinesOfAnyLengthComeWholeAndInOrder(string name)
    {
        // Lines around the size of a batch and of its multiples, and many short ones.
        int[] lengths = [.. Enumerable.Range(0, 5000).Select(i => i % 97), (1 << 20) - 2, 1 << 20, 3, (1 << 21) + 1, 1];
        string[] lines = [.. lengths.Select((length, i) => new string((char)('a' + (i % 26)), length) + "\n")];
        using (Stream stream = Create(name))
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

    [Theory]
    [InlineData("a.jsonl.gz")]
    [InlineData("a.jsonl.zst")]
    public void ADamagedCompressedFileIsRefused(string name)
    {
        using (Stream stream = Create(name))
        {
            stream.Write(Encoding.UTF8.GetBytes(string.Concat(Enumerable.Range(0, 100_000).Select(i => $"{{\"text\":\"{i * 7919}\"}}\n"))));
        }

        byte[] whole = File.ReadAllBytes(folder[name]);
        foreach (byte[] damaged in (byte[][])[whole[..(whole.Length / 2)], whole[..^4], [.. whole[..1000], (byte)(whole[1000] ^ 255), .. whole[1001..]], "not compressed"u8.ToArray()])
        {
            File.WriteAllBytes(folder[name], damaged);
            Assert.Contains("damaged or cut off", Assert.Throws<InvalidInputException>(() => Read()).Message, StringComparison.Ordinal);
        }
    }

    [Fact]
    public async Task RowsOfParquetAreLinesOfTheirTextColumns()
    {
        // Two row groups, a column that holds no text, texts that are missing, long, or need escaping in JSON.
        string?[] texts = ["one\n\"two\"", null, "é 漢字 😀", "", new string('x', 3_000_000), "last"];
        await WriteParquet(texts, rowsInGroup: 4);
        string[] lines = Read();
        Assert.Equal(texts.Length, lines.Length);
        for (int i = 0; i < lines.Length; i++)
        {
            using var document = JsonDocument.Parse(lines[i]);
            Assert.Equal(["title", "text"], document.RootElement.EnumerateObject().Select(property => property.Name));
            Assert.Equal(texts[i], document.RootElement.GetProperty("text").GetString());
            Assert.Equal($"title {i}", document.RootElement.GetProperty("title").GetString());
        }

        Assert.Equal(lines[3..], Read(from: new CorpusPosition(0, 3)));
    }

    [Fact]
    public async Task ADamagedParquetFileIsRefused()
    {
        await WriteParquet([.. Enumerable.Range(0, 5000).Select(i => $"text {i * 7919}")], rowsInGroup: 5000);
        byte[] whole = await File.ReadAllBytesAsync(folder["a.parquet"], TestContext.Current.CancellationToken);
        foreach (byte[] damaged in (byte[][])[whole[..(whole.Length / 2)], whole[..^1], [.. whole[..^8], 255, 255, 255, 127, .. whole[^4..]], "PAR1"u8.ToArray(), []])
        {
            await File.WriteAllBytesAsync(folder["a.parquet"], damaged, TestContext.Current.CancellationToken);
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

    private Stream Create(string name)
    {
        Stream file = File.Create(folder[name]);
        return Path.GetExtension(name) switch
        {
            ".gz" => new GZipStream(file, CompressionLevel.Optimal),
            ".zst" => WithChecksum(new CompressionStream(file, leaveOpen: false)),
            _ => file,
        };
    }

    /// <summary>As the command-line tool writes it: without a checksum, a changed byte may only change the text.</summary>
    private static CompressionStream WithChecksum(CompressionStream stream)
    {
        stream.SetParameter(ZSTD_cParameter.ZSTD_c_checksumFlag, 1);
        return stream;
    }

    [Fact]
    public async Task AParquetFileWithoutTextIsRefused()
    {
        var schema = new ParquetSchema(new DataField<int>("id"));
        await using (Stream file = File.Create(folder["a.parquet"]))
        await using (ParquetWriter writer = await ParquetWriter.CreateAsync(schema, file))
        {
            using ParquetRowGroupWriter group = writer.CreateRowGroup();
            await group.WriteAsync<int>(schema.DataFields[0], (int[])[1, 2]);
        }

        Assert.Contains("none of its 1 columns holds text", Assert.Throws<InvalidInputException>(() => Read()).Message, StringComparison.Ordinal);
    }

    private async Task WriteParquet(string?[] texts, int rowsInGroup)
    {
        var schema = new ParquetSchema(new DataField<int>("id"), new DataField<string>("title"), new DataField<string>("text"));
        await using Stream file = File.Create(folder["a.parquet"]);
        await using ParquetWriter writer = await ParquetWriter.CreateAsync(schema, file);
        for (int first = 0; first < texts.Length; first += rowsInGroup)
        {
            int count = Math.Min(rowsInGroup, texts.Length - first);
            using ParquetRowGroupWriter group = writer.CreateRowGroup();
            await group.WriteAsync<int>(schema.DataFields[0], Enumerable.Range(first, count).ToArray());
            await group.WriteAsync(schema.DataFields[1], (string[])[.. Enumerable.Range(first, count).Select(i => $"title {i}")]);
            await group.WriteAsync(schema.DataFields[2], texts[first..(first + count)]!);
            group.CompleteValidate();
        }
    }

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
