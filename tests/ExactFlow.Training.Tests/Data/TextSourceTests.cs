using System.IO.Compression;
using System.Text;
using ExactFlow.Tensors;
using ExactFlow.Training.Data;

namespace ExactFlow.Training.Tests.Data;

public class TextSourceTests
{
    [Fact]
    public void TheEndOfASingleFileIsHeldOutAtALine()
    {
        using TemporaryFolder folder = new();
        string text = string.Concat(Enumerable.Range(0, 1000).Select(i => $"line {i}\n"));
        File.WriteAllText(folder["a.txt"], text);
        TextCorpus corpus = TextSource.Load([folder["a.txt"]], [], 0.1);
        string training = Encoding.UTF8.GetString(corpus.Training.Span), validation = Encoding.UTF8.GetString(corpus.Validation.Span);
        Assert.Equal(text, training + validation);
        Assert.StartsWith("line ", validation);
        Assert.EndsWith("\n", training);
        Assert.InRange(corpus.Validation.Length, 0.095 * text.Length, 0.1 * text.Length);
        Assert.Equal((1, 0), (corpus.TrainingFiles, corpus.ValidationFiles));
        Assert.Contains("a.txt", corpus.ToString());
    }

    [Fact]
    public void EveryFileIsADocumentAndACutDocumentIsOnBothSides()
    {
        using TemporaryFolder folder = new();
        Directory.CreateDirectory(folder["b"]);
        File.WriteAllText(folder["a.txt"], "first document\n");
        File.WriteAllText(Path.Combine(folder["b"], "a.txt"), "one\ntwo\nthree\nfour\nfive\nsix\n");
        File.WriteAllText(folder["empty.txt"], "");
        TextCorpus corpus = TextSource.Load([folder["a.txt"], folder["empty.txt"], Path.Combine(folder["b"], "a.txt")], [], 0.2);
        Assert.Equal(["first document\n", "one\ntwo\nthree\nfour\n"], corpus.TrainingDocuments.Select(document => Encoding.UTF8.GetString(document.Span)));
        Assert.Equal(["five\nsix\n"], corpus.ValidationDocuments.Select(document => Encoding.UTF8.GetString(document.Span)));
        Assert.Equal((3, 0), (corpus.TrainingFiles, corpus.ValidationFiles));
    }

    [Fact]
    public void LinesOfJsonAreDocumentsAndSoIsACompressedTextHoweverLong()
    {
        using TemporaryFolder folder = new();
        File.WriteAllText(folder["a.jsonl"], "{\"body\":\"one\"}\n\n{\"text\":5,\"body\":\"two\\n\"}\n");
        string text = string.Concat(Enumerable.Range(0, 500_000).Select(i => $"line {i}\n"));
        using (GZipStream zipped = new(File.Create(folder["b.txt.gz"]), CompressionLevel.Fastest))
        {
            zipped.Write(Encoding.UTF8.GetBytes(text));
        }

        Assert.True(text.Length > CorpusReader.LongestDocument);
        TextCorpus corpus = TextSource.Load([folder["*.txt.gz"]], [folder["a.jsonl"]], 0.1, "body");
        Assert.Equal(["one\n", "two\n"], corpus.ValidationDocuments.Select(document => Encoding.UTF8.GetString(document.Span)));
        Assert.Equal(text, Encoding.UTF8.GetString(Assert.Single(corpus.TrainingDocuments).Span));
        Assert.Equal("one\ntwo\n", Encoding.UTF8.GetString(TextSource.Read([folder["a.jsonl"]], "body").Span));
        Assert.Contains("has no field 'text'; its fields are 'body'", Assert.Throws<InvalidInputException>(() => TextSource.Read([folder["a.jsonl"]])).Message);
    }

    /// <summary>What is measured or encoded is the text of the file, which need not end with a line.</summary>
    [Fact]
    public void AFileIsReadAsItIs()
    {
        using TemporaryFolder folder = new();
        File.WriteAllText(folder["a.txt"], "no line");
        File.WriteAllText(folder["b.txt"], "another");
        Assert.Equal("no line", Encoding.UTF8.GetString(TextSource.Read([folder["a.txt"]]).Span));
        Assert.Equal("no line\nanother", Encoding.UTF8.GetString(TextSource.Read([folder.Path]).Span));
        Assert.Equal(["no line\n"], TextSource.Load([folder["a.txt"]], [folder["b.txt"]], 0.1).TrainingDocuments.Select(document => Encoding.UTF8.GetString(document.Span)));
    }

    [Fact]
    public void ATextWithoutLinesIsCutBeforeAWord()
    {
        using TemporaryFolder folder = new();
        File.WriteAllText(folder["a"], string.Concat(Enumerable.Repeat("word ", 200)));
        TextCorpus corpus = TextSource.Load([folder["a"]], [], 0.25);
        Assert.StartsWith(" word", Encoding.UTF8.GetString(corpus.Validation.Span));
    }

    [Fact]
    public void AFolderIsReadInOrdinalOrderAndWholeFilesAreHeldOut()
    {
        using TemporaryFolder folder = new();
        Directory.CreateDirectory(folder["sub"]);
        for (int i = 0; i < 40; i++)
        {
            File.WriteAllText(Path.Combine(folder.Path, i % 2 == 0 ? "sub" : "", $"{(char)('A' + (i % 26))}{i}.{(i % 3 == 0 ? "md" : "txt")}"), $"[{i}]" + new string('x', 50));
        }

        File.WriteAllText(folder["image.png"], "not text");
        TextCorpus corpus = TextSource.Load([folder.Path], [], 0.1);
        Assert.Equal(40, corpus.TrainingFiles + corpus.ValidationFiles);
        Assert.InRange(corpus.ValidationFiles, 3, 6);
        string training = Encoding.UTF8.GetString(corpus.Training.Span), validation = Encoding.UTF8.GetString(corpus.Validation.Span);
        Assert.DoesNotContain("not text", training + validation);
        foreach (string line in validation.Split('\n', StringSplitOptions.RemoveEmptyEntries))
        {
            Assert.DoesNotContain(line, training);
        }

        string[] expected = [.. Directory.GetFiles(folder.Path, "*", SearchOption.AllDirectories).Where(path => !path.EndsWith("png", StringComparison.Ordinal))
            .OrderBy(path => Path.GetRelativePath(folder.Path, path), StringComparer.Ordinal).Select(File.ReadAllText)];
        Assert.Equal(expected.Where(training.Contains), training.Split('\n', StringSplitOptions.RemoveEmptyEntries));
        Assert.Equal(corpus.Validation.ToArray(), TextSource.Load([folder.Path], [], 0.1).Validation.ToArray());
    }

    [Fact]
    public void ValidationTextMayBeNamed()
    {
        using TemporaryFolder folder = new();
        File.WriteAllText(folder["a.txt"], "train");
        File.WriteAllBytes(folder["b.txt"], [0xEF, 0xBB, 0xBF, .. "validate"u8]);
        TextCorpus corpus = TextSource.Load([folder["a.txt"]], [folder["b.txt"]], 0.5);
        Assert.Equal("train\n"u8.ToArray(), corpus.Training.ToArray());
        Assert.Equal("validate\n"u8.ToArray(), corpus.Validation.ToArray());
        Assert.Contains("both", Refusal(() => TextSource.Load([folder.Path], [folder["b.txt"]], 0.5)));
        Assert.Contains("no text to train on", Refusal(() => TextSource.Load([], [folder["b.txt"]], 0.5)));
    }

    [Fact]
    public void WhatCannotBeReadIsNamed()
    {
        using TemporaryFolder folder = new();
        Assert.Contains("none.txt", Refusal(() => TextSource.Load([folder["none.txt"]], [], 0.1)));
        Assert.Contains(".md", Refusal(() => TextSource.Load([folder.Path], [], 0.1)));
        File.WriteAllBytes(folder["binary.txt"], [65, 66, 0, 67]);
        string message = Refusal(() => TextSource.Load([folder["binary.txt"]], [], 0.1));
        Assert.Contains("binary.txt", message);
        Assert.Contains("byte 2", message);
        File.WriteAllText(folder["utf16.txt"], "text", Encoding.Unicode);
        Assert.Contains("UTF-16", Refusal(() => TextSource.Load([folder["utf16.txt"]], [], 0.1)));
    }

    [Fact]
    public void AFileWithoutPermissionIsNamed()
    {
        if (OperatingSystem.IsWindows() || Environment.IsPrivilegedProcess)
        {
            Assert.Skip("Needs a user whom file permissions bind: not root, not Windows.");
            return;
        }

        using TemporaryFolder folder = new();
        File.WriteAllText(folder["secret.txt"], "text");
        File.SetUnixFileMode(folder["secret.txt"], UnixFileMode.None);
        Assert.Contains("secret.txt", Refusal(() => TextSource.Load([folder["secret.txt"]], [], 0.1)));
    }

    [Fact]
    public void TooShortATextSaysHowMuchIsNeeded()
    {
        TextCorpus corpus = new("'a.txt'", new byte[1000], new byte[10], 1, 0);
        Assert.Same(corpus, corpus.Require(1000, 10));
        string message = Refusal(() => corpus.Require(1001, 10));
        Assert.Contains("1000 bytes", message);
        Assert.Contains("1001", message);
        Assert.Contains("validation", Refusal(() => corpus.Require(1, 11)));
    }

    [Fact]
    public void TheChoiceOfFilesIsStableWhenFilesAreAdded()
    {
        (string Name, long Length)[] files = [.. Enumerable.Range(0, 200).Select(i => ($"file{i}.txt", 1000L))];
        HashSet<int> held = HeldOut.Choose(files, 0.05);
        HashSet<int> heldOfMore = HeldOut.Choose([.. files, ("another.txt", 1000)], 0.05);
        Assert.InRange(held.Count, 9, 15);
        Assert.True(held.Except(heldOfMore).Count() <= 1);
        Assert.Empty(HeldOut.Choose([("one", 100), ("two", 100)], 0.05));
    }

    private static string Refusal(Action action) => Assert.Throws<InvalidInputException>(action).Message;
}
