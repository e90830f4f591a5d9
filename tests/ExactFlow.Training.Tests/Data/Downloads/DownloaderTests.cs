using System.Security.Cryptography;
using ExactFlow.Tensors;
using ExactFlow.Tensors.Randomness;
using ExactFlow.Training.Data.Downloads;
using Answer = ExactFlow.Training.Tests.Data.Downloads.LoopbackServer.Answer;

namespace ExactFlow.Training.Tests.Data.Downloads;

/// <summary>Downloads from servers on this machine that cut off, corrupt, stall, redirect and refuse.</summary>
public sealed class DownloaderTests : IDisposable
{
    private const string Name = "data.gz";
    private static readonly byte[] Contents = MakeContents();
    private static readonly byte[] Packed = IdxSamples.Compress(Contents);
    private static readonly RemoteFile File = new(Name, Contents.Length, Convert.ToHexStringLower(SHA256.HashData(Contents)));
    private static readonly DownloadOptions Quick = new() { Rounds = 3, Stall = TimeSpan.FromSeconds(3), Pause = TimeSpan.FromMilliseconds(10) };
    private readonly TemporaryFolder folder = new();

    public void Dispose() => folder.Dispose();

    [Fact]
    public async Task A_file_is_fetched_checked_and_not_fetched_again()
    {
        using var server = new LoopbackServer(request => Answer.Of(Packed, request));
        await Fetch([server.Address]);
        await Fetch([server.Address]);
        AssertWhole();
        Assert.Single(server.Requests);
        Assert.Equal("/" + Name, server.Requests.First().Path);
    }

    [Fact]
    public async Task A_connection_that_is_cut_is_gone_on_with_where_it_was()
    {
        int left = 2;
        using var server = new LoopbackServer(request => left-- > 0 ? Answer.Of(Packed, request) with { CutAfter = Packed.Length / 4 } : Answer.Of(Packed, request));
        await Fetch([server.Address]);
        AssertWhole();
        Assert.Equal([0, Packed.Length / 4, Packed.Length / 4 * 2], server.Requests.Select(request => request.From));
    }

    [Fact]
    public async Task What_an_earlier_process_left_is_gone_on_with()
    {
        await System.IO.File.WriteAllBytesAsync(folder[Name + ".part"], Packed[..1000], TestContext.Current.CancellationToken);
        using var server = new LoopbackServer(request => Answer.Of(Packed, request));
        await Fetch([server.Address]);
        AssertWhole();
        Assert.Equal(1000, Assert.Single(server.Requests).From);
    }

    [Fact]
    public async Task A_server_without_ranges_begins_anew()
    {
        await System.IO.File.WriteAllBytesAsync(folder[Name + ".part"], Packed[..1000], TestContext.Current.CancellationToken);
        using var server = new LoopbackServer(_ => new Answer(200, Packed));
        await Fetch([server.Address]);
        AssertWhole();
    }

    [Fact]
    public async Task A_part_that_is_whole_already_is_checked_and_taken_and_one_that_is_wrong_thrown_away()
    {
        using var server = new LoopbackServer(request => Answer.Of(Packed, request));
        await System.IO.File.WriteAllBytesAsync(folder[Name + ".part"], Packed, TestContext.Current.CancellationToken);
        await Fetch([server.Address]);
        AssertWhole();
        System.IO.File.Delete(folder[Name]);
        await System.IO.File.WriteAllBytesAsync(folder[Name + ".part"], new byte[Packed.Length + 5], TestContext.Current.CancellationToken);
        await Fetch([server.Address]);
        AssertWhole();
    }

    [Fact]
    public async Task A_server_that_stalls_is_left_and_the_next_goes_on()
    {
        using var stalling = new LoopbackServer(request => Answer.Of(Packed, request) with { CutAfter = 5000, Stalls = true });
        using var good = new LoopbackServer(request => Answer.Of(Packed, request));
        await Fetch([stalling.Address, good.Address]);
        AssertWhole();
        Assert.Equal(5000, Assert.Single(good.Requests).From);
    }

    [Fact]
    public async Task Corrupt_contents_are_thrown_away_and_fetched_from_the_next_mirror()
    {
        byte[] corrupt = [.. Packed];
        corrupt[Packed.Length / 2] ^= 0x10;
        using var bad = new LoopbackServer(request => Answer.Of(corrupt, request));
        using var other = new LoopbackServer(request => Answer.Of(IdxSamples.Compress([.. Contents.Reverse()]), request));
        using var good = new LoopbackServer(request => Answer.Of(Packed, request));
        await Fetch([bad.Address, other.Address, good.Address]);
        AssertWhole();
        Assert.Equal(0, Assert.Single(good.Requests).From);
    }

    [Fact]
    public async Task Redirections_are_followed()
    {
        using var good = new LoopbackServer(request => Answer.Of(Packed, request));
        using var moved = new LoopbackServer(_ => new Answer(302, []) { Headers = [$"Location: {good.Address}{Name}"] });
        await Fetch([moved.Address]);
        AssertWhole();
    }

    [Fact]
    public async Task A_server_that_never_gives_it_is_named_and_nothing_bears_the_files_name()
    {
        using var missing = new LoopbackServer(_ => new Answer(404, []));
        string message = (await Assert.ThrowsAsync<InvalidInputException>(() => Fetch([missing.Address]))).Message;
        Assert.Contains("404", message, StringComparison.Ordinal);
        Assert.Contains(missing.Address.ToString(), message, StringComparison.Ordinal);
        Assert.Contains("--mirror", message, StringComparison.Ordinal);
        Assert.Equal(3, missing.Requests.Count);

        using var endless = new LoopbackServer(_ => new Answer(200, new byte[4 * Contents.Length]));
        message = (await Assert.ThrowsAsync<InvalidInputException>(() => Fetch([endless.Address]))).Message;
        Assert.Contains("no gzip file", message, StringComparison.Ordinal);
        Uri nobody;
        using (var closed = new LoopbackServer(_ => new Answer(200, [])))
        {
            nobody = closed.Address;
        }

        await Assert.ThrowsAsync<InvalidInputException>(() => Fetch([nobody]));
        Assert.Empty(Directory.GetFiles(folder.Path));
    }

    [Fact]
    public async Task A_file_of_that_name_that_is_something_else_is_left_alone_and_named()
    {
        await System.IO.File.WriteAllTextAsync(folder[Name], "mine", TestContext.Current.CancellationToken);
        using var server = new LoopbackServer(request => Answer.Of(Packed, request));
        string message = (await Assert.ThrowsAsync<InvalidInputException>(() => Fetch([server.Address]))).Message;
        Assert.Contains("is there already but it is no gzip file", message, StringComparison.Ordinal);
        Assert.Equal("mine", await System.IO.File.ReadAllTextAsync(folder[Name], TestContext.Current.CancellationToken));
        Assert.Empty(server.Requests);
    }

    [Fact]
    public async Task A_stop_leaves_the_part()
    {
        using var stop = new CancellationTokenSource();
        using var server = new LoopbackServer(request => Answer.Of(Packed, request) with { CutAfter = 5000, Stalls = true });
        using var downloader = new Downloader(Quick with { Stall = TimeSpan.FromSeconds(60) }, progress =>
        {
            if (progress.Bytes >= 5000)
            {
                stop.Cancel();
            }
        });
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => downloader.Fetch([File], [server.Address], folder.Path, stop.Token));
        Assert.Equal(Packed[..5000], await System.IO.File.ReadAllBytesAsync(folder[Name + ".part"], TestContext.Current.CancellationToken));
    }

    [Fact]
    public async Task The_real_files_are_those_that_are_pinned()
    {
        string real = SharedData.Find("mnist");
        foreach (RemoteFile file in MnistFiles.All)
        {
            System.IO.File.Copy(Path.Combine(real, file.Name), folder[file.Name]);
        }

        // All are there: nobody is asked, and each is checked against its hash.
        using var downloader = new Downloader(Quick);
        await downloader.Fetch(MnistFiles.All, [], folder.Path, CancellationToken.None);
        Assert.Equal(4, Directory.GetFiles(folder.Path).Length);
    }

    private static byte[] MakeContents()
    {
        var random = new Philox(5, 0);
        var bytes = new byte[200_000];
        for (int i = 0; i < bytes.Length; i++)
        {
            bytes[i] = (byte)random.Below((ulong)i, 64);
        }

        return bytes;
    }

    private async Task Fetch(Uri[] mirrors)
    {
        using var downloader = new Downloader(Quick);
        await downloader.Fetch([File], mirrors, folder.Path, TestContext.Current.CancellationToken);
    }

    private void AssertWhole()
    {
        Assert.Equal([folder[Name]], Directory.GetFiles(folder.Path));
        Assert.Equal(Packed, System.IO.File.ReadAllBytes(folder[Name]));
    }
}
