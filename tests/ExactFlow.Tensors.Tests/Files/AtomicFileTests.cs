using System.Text;
using ExactFlow.Tensors.Files;
using ExactFlow.Testing;

namespace ExactFlow.Tensors.Tests.Files;

public class AtomicFileTests
{
    [Fact]
    public void TheOldFileStaysUntilTheCommit()
    {
        using TemporaryFolder folder = new();
        string path = folder["state.json"];
        AtomicFile.WriteAllText(path, "old");
        using (AtomicFile file = new(path))
        {
            file.Write("new"u8);
            file.Flush();
            Assert.Equal("old", File.ReadAllText(path));
            file.Commit();
            Assert.Equal("new", File.ReadAllText(path));
            Assert.Throws<ObjectDisposedException>(() => file.Write("more"u8));
        }

        Assert.Equal([path], Directory.GetFiles(folder.Path));
    }

    [Fact]
    public void WithoutACommitNothingChangesAndNothingIsLeft()
    {
        using TemporaryFolder folder = new();
        string path = folder["state.json"];
        AtomicFile.WriteAllBytes(path, "old"u8);
        using (AtomicFile abandoned = new(path))
        {
            abandoned.Write(new byte[200_000]);
        }

        Assert.Equal("old", File.ReadAllText(path));
        Assert.Equal([path], Directory.GetFiles(folder.Path));
    }

    [Fact]
    public void ALeftoverOfAKilledProcessIsReplaced()
    {
        using TemporaryFolder folder = new();
        File.WriteAllText(folder["x.tmp"], new string('?', 1000));
        AtomicFile.WriteAllText(folder["x"], "whole");
        Assert.Equal("whole", File.ReadAllText(folder["x"]));
        Assert.Equal([folder["x"]], Directory.GetFiles(folder.Path));
    }

    [Fact]
    public void SeekingBackOverwrites()
    {
        using TemporaryFolder folder = new();
        using (AtomicFile file = new(folder["x"]))
        {
            file.Write("abcdef"u8);
            file.Position = 2;
            file.Write("X"u8);
            Assert.Equal(6, file.Length);
            file.Commit();
        }

        Assert.Equal("abXdef", File.ReadAllText(folder["x"]));
    }

    [Fact]
    public void AMissingFolderAFolderInTheWayAndASecondWriterAreNamed()
    {
        using TemporaryFolder folder = new();
        Assert.Contains("does not exist", Assert.Throws<InvalidInputException>(() => new AtomicFile(Path.Combine(folder.Path, "none", "x"))).Message);
        Directory.CreateDirectory(folder["d"]);
        Assert.Contains("a folder of that name", Assert.Throws<InvalidInputException>(() => new AtomicFile(folder["d"])).Message);
        using AtomicFile first = new(folder["x"]);
        Assert.Contains("another process", Assert.Throws<InvalidInputException>(() => new AtomicFile(folder["x"])).Message);
        first.Write(Encoding.UTF8.GetBytes("first"));
        first.Commit();
        Assert.Equal("first", File.ReadAllText(folder["x"]));
    }

    /// <summary>Linux has a device that is always full; the temporary name is made to point to it.</summary>
    [Theory]
    [InlineData(10)]
    [InlineData(1_000_000)]
    public void AFullDiskIsOneSentenceAndTheOldFileStays(int bytes)
    {
        Assert.SkipUnless(File.Exists("/dev/full"), "Needs /dev/full, the always full device of Linux.");
        using TemporaryFolder folder = new();
        string path = folder["weights"];
        AtomicFile.WriteAllText(path, "old");
        File.CreateSymbolicLink(path + ".tmp", "/dev/full");
        string message = Assert.Throws<InvalidInputException>(() => AtomicFile.WriteAllBytes(path, new byte[bytes])).Message;
        Assert.Contains("is full", message);
        Assert.Contains(path, message);
        Assert.Equal("old", File.ReadAllText(path));
        Assert.Equal([path], Directory.GetFiles(folder.Path));
    }
}
