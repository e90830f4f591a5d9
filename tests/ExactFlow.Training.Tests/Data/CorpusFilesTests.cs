using ExactFlow.Tensors;
using ExactFlow.Training.Data;

namespace ExactFlow.Training.Tests.Data;

public sealed class CorpusFilesTests : IDisposable
{
    private readonly TemporaryFolder folder = new();

    [Fact]
    public void AFolderStandsForItsTextFilesInTheOrderOfTheirNames()
    {
        Write("b.txt", "a/c.md", "a/d.jsonl", "a/e.ndjson.gz", "z.json", "z.csv", "a/b/f.TXT.GZ");
        Assert.Equal(["a/b/f.TXT.GZ", "a/c.md", "a/d.jsonl", "a/e.ndjson.gz", "b.txt"], CorpusFiles.Find([folder.Path]).Select(file => file.Name));
    }

    [Theory]
    [InlineData("*.txt", "1.txt,2.txt")]
    [InlineData("?.md", "1.md")]
    [InlineData("**/*.txt", "1.txt,2.txt,a/3.txt,a/b/4.txt")]
    [InlineData("a/**", "b/4.txt,3.txt")]
    [InlineData("a/**/4.*", "b/4.txt")]
    [InlineData("*/b/*", "a/b/4.txt")]
    public void PatternsMatchNamesAndFolders(string pattern, string expected)
    {
        Write("1.txt", "2.txt", "1.md", "10.md", "a/3.txt", "a/b/4.txt");
        Assert.Equal(expected.Split(',').Order(), CorpusFiles.Find([folder[pattern]]).Select(file => file.Name).Order());
    }

    [Fact]
    public void FormatsFollowFromEndingsAndAnyNamedFileIsText()
    {
        Write("a.jsonl.gz", "b.txt", "README", "c.txt.zst", "d.parquet");
        Assert.Equal(
            [(CorpusFormat.JsonLines, CorpusCoding.Gzip), (CorpusFormat.Text, CorpusCoding.None), (CorpusFormat.Text, CorpusCoding.None), (CorpusFormat.Text, CorpusCoding.Zstandard), (CorpusFormat.JsonLines, CorpusCoding.Parquet)],
            CorpusFiles.Find([folder["a.jsonl.gz"], folder["b.txt"], folder["README"], folder["c.txt.zst"], folder["d.parquet"]]).Select(file => (file.Format, file.Coding)));
    }

    /// <summary>Whoever names a .json file means lines of JSON; in a folder it is mostly a list or settings beside the text.</summary>
    [Fact]
    public void JsonFilesAreLinesWhereTheyAreNamed()
    {
        Write("a.txt", "part.json.gz", "dataset_info.json");
        Assert.Equal("a.txt", Assert.Single(CorpusFiles.Find([folder.Path])).Name);
        Assert.Equal((CorpusFormat.JsonLines, CorpusCoding.Gzip), CorpusFiles.Find([folder["part.*"]]).Select(file => (file.Format, file.Coding)).Single());
        Assert.Equal(CorpusFormat.JsonLines, CorpusFiles.Find([folder["dataset_info.json"]]).Single().Format);
    }

    [Fact]
    public void AFileNamedTwiceIsReadOnce()
    {
        Write("a.txt");
        Assert.Single(CorpusFiles.Find([folder.Path, folder["a.txt"], folder["*.txt"]]));
    }

    [Theory]
    [InlineData("missing.txt", "no such file or folder")]
    [InlineData("*.txt", "No file matches")]
    [InlineData("nowhere/*.txt", "there is no folder")]
    [InlineData("", "holds no .txt")]
    public void NothingToReadIsAnError(string asked, string expected)
        => Assert.Contains(expected, Assert.Throws<InvalidInputException>(() => CorpusFiles.Find([folder[asked]])).Message, StringComparison.Ordinal);

    public void Dispose() => folder.Dispose();

    private void Write(params string[] names)
    {
        foreach (string name in names)
        {
            Directory.CreateDirectory(Path.GetDirectoryName(folder[name])!);
            File.WriteAllText(folder[name], "text");
        }
    }
}
