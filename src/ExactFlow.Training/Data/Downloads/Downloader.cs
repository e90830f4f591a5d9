using System.Net;
using System.Net.Http.Headers;
using System.Security.Cryptography;
using ExactFlow.Tensors;

namespace ExactFlow.Training.Data.Downloads;

/// <summary>
/// Fetches files from mirrors into a folder. A file grows under the name <c>NAME.part</c> and bears its own only when its contents have the hash they must have;
/// what was fetched before a break, a stall or a kill is gone on with (HTTP ranges), and what is wrong is fetched anew, from the next mirror.
/// </summary>
public sealed class Downloader : IDisposable
{
    private const int BufferBytes = 1 << 16;
    private readonly HttpClient client;
    private readonly DownloadOptions options;
    private readonly Action<DownloadProgress> report;

    /// <summary>Prepares; nothing is connected yet.</summary>
    /// <param name="options">How it deals with what goes wrong.</param>
    /// <param name="report">Is told how it goes.</param>
    public Downloader(DownloadOptions? options = null, Action<DownloadProgress>? report = null)
    {
        this.options = options ?? new DownloadOptions();
        this.report = report ?? (_ => { });
        client = new HttpClient(new SocketsHttpHandler { ConnectTimeout = this.options.Stall, AutomaticDecompression = DecompressionMethods.None, MaxAutomaticRedirections = 10 })
        {
            Timeout = Timeout.InfiniteTimeSpan,
        };
        client.DefaultRequestHeaders.UserAgent.Add(new ProductInfoHeaderValue("exactflow", "1"));
    }

    /// <summary>Fetches files that are not there yet.</summary>
    /// <param name="files">Which.</param>
    /// <param name="mirrors">Addresses under which all files lie, in the order of trying.</param>
    /// <param name="folder">Where they go; made if need be.</param>
    /// <param name="stop">Asks to stop; what was fetched stays, and the next call goes on.</param>
    /// <exception cref="InvalidInputException">A file of that name holds something else, no mirror gave the right contents, or the disk is full; finished files stay.</exception>
    /// <exception cref="OperationCanceledException">It was stopped.</exception>
    public async Task Fetch(IReadOnlyList<RemoteFile> files, IReadOnlyList<Uri> mirrors, string folder, CancellationToken stop)
    {
        ArgumentNullException.ThrowIfNull(files);
        ArgumentNullException.ThrowIfNull(mirrors);
        try
        {
            Directory.CreateDirectory(folder);
            foreach (RemoteFile file in files)
            {
                await Fetch(file, mirrors, folder, stop).ConfigureAwait(false);
            }
        }
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException)
        {
            throw new InvalidInputException($"Writing to the folder '{folder}' failed ({exception.Message.TrimEnd('.')}): make room or check its permissions and give the same command again; it goes on where it was.", exception);
        }
    }

    /// <inheritdoc/>
    public void Dispose() => client.Dispose();

    private async Task Fetch(RemoteFile file, IReadOnlyList<Uri> mirrors, string folder, CancellationToken stop)
    {
        string path = Path.Combine(folder, file.Name), part = path + ".part";
        if (File.Exists(path))
        {
            if (Fault(path, file) is { } fault)
            {
                throw new InvalidInputException($"The file '{path}' is there already but {fault}: remove it, and the same command fetches it anew.");
            }

            report(new DownloadProgress(file.Name, new FileInfo(path).Length, null, "is there already"));
            return;
        }

        string lastFailure = "there are no mirrors";
        for (int round = 0; round < options.Rounds; round++)
        {
            if (round > 0)
            {
                await Task.Delay(options.Pause * (1 << (round - 1)), stop).ConfigureAwait(false);
            }

            foreach (Uri mirror in mirrors)
            {
                var address = new Uri(mirror, file.Name);
                string? failure = await TryFetch(address, file, part, stop).ConfigureAwait(false);
                if (failure is null)
                {
                    File.Move(part, path);
                    report(new DownloadProgress(file.Name, new FileInfo(path).Length, null, "fetched and checked"));
                    return;
                }

                lastFailure = $"{address}: {failure}";
                report(new DownloadProgress(file.Name, File.Exists(part) ? new FileInfo(part).Length : 0, null, lastFailure));
            }
        }

        throw new InvalidInputException($"The file {file.Name} could not be fetched from any of {mirrors.Count} mirrors in {options.Rounds} rounds (last {lastFailure}): check the network, or give another mirror with --mirror URL; the same command goes on where it was.");
    }

    /// <summary>One try at one mirror.</summary>
    /// <returns>Null when the file is whole and right, otherwise what went wrong.</returns>
    private async Task<string?> TryFetch(Uri address, RemoteFile file, string part, CancellationToken stop)
    {
        using var stalled = CancellationTokenSource.CreateLinkedTokenSource(stop);
        try
        {
            stalled.CancelAfter(options.Stall);
            using HttpResponseMessage? response = await Ask(address, part, stalled.Token).ConfigureAwait(false);
            if (response is not null)
            {
                if (!response.IsSuccessStatusCode)
                {
                    return $"the server answers {(int)response.StatusCode} {response.ReasonPhrase}";
                }

                await Save(response, file, part, stalled).ConfigureAwait(false);
            }
        }
        catch (OperationCanceledException) when (!stop.IsCancellationRequested)
        {
            return $"the server sent nothing for {options.Stall.TotalSeconds:0.#} s";
        }
        catch (Exception exception) when (exception is HttpRequestException or HttpIOException)
        {
            return exception.Message.TrimEnd('.');
        }

        if (Fault(part, file) is not { } fault)
        {
            return null;
        }

        File.Delete(part);
        return fault;
    }

    /// <summary>Asks for the file from where the part ends. Null: the server has no more, so the part is whole, or else it is wrong.</summary>
    private async Task<HttpResponseMessage?> Ask(Uri address, string part, CancellationToken stop)
    {
        long here = File.Exists(part) ? new FileInfo(part).Length : 0;
        using var request = new HttpRequestMessage(HttpMethod.Get, address);
        request.Headers.Range = here > 0 ? new RangeHeaderValue(here, null) : null;
        HttpResponseMessage response = await client.SendAsync(request, HttpCompletionOption.ResponseHeadersRead, stop).ConfigureAwait(false);
        if (response.StatusCode == HttpStatusCode.RequestedRangeNotSatisfiable)
        {
            response.Dispose();
            return null;
        }

        return response;
    }

    /// <summary>Writes what arrives behind the part, or in its place where the server begins anew. The allowance of time starts again with every piece.</summary>
    private async Task Save(HttpResponseMessage response, RemoteFile file, string part, CancellationTokenSource stalled)
    {
        long here = File.Exists(part) ? new FileInfo(part).Length : 0;
        bool goesOn = response.StatusCode == HttpStatusCode.PartialContent && response.Content.Headers.ContentRange?.From == here;
        here = goesOn ? here : 0;
        long? total = here + response.Content.Headers.ContentLength;

        // A gzip file is hardly longer than what it holds; a server that sends more sends something else.
        long limit = file.ContentsBytes + (file.ContentsBytes / 100) + 4096;
        Stream body = await response.Content.ReadAsStreamAsync(stalled.Token).ConfigureAwait(false);
        await using (body.ConfigureAwait(false))
        {
            var to = new FileStream(part, goesOn ? FileMode.Append : FileMode.Create, FileAccess.Write, FileShare.None, BufferBytes);
            await using (to.ConfigureAwait(false))
            {
                var buffer = new byte[BufferBytes];
                int count;
                while ((count = await Read(body, buffer, stalled.Token).ConfigureAwait(false)) > 0 && here <= limit)
                {
                    stalled.CancelAfter(options.Stall);
                    to.Write(buffer, 0, count);
                    here += count;
                    report(new DownloadProgress(file.Name, here, total, null));
                }

                to.Flush(flushToDisk: true);
            }
        }
    }

    /// <summary>A connection that breaks off is the network's fault, where writing to a file would be the disk's.</summary>
    private static async Task<int> Read(Stream body, byte[] buffer, CancellationToken stop)
    {
        try
        {
            return await body.ReadAsync(buffer, stop).ConfigureAwait(false);
        }
        catch (IOException exception) when (exception is not HttpIOException)
        {
            throw new HttpRequestException(exception.Message, exception);
        }
    }

    /// <summary>What is wrong with a file's contents; null when they are what they must be.</summary>
    private static string? Fault(string path, RemoteFile file)
    {
        try
        {
            using Stream gzip = Gzip.Decompress(File.OpenRead(path));
            using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
            var buffer = new byte[BufferBytes];
            long bytes = 0;
            int count;
            while ((count = gzip.Read(buffer)) > 0)
            {
                bytes += count;
                if (bytes > file.ContentsBytes)
                {
                    return $"it holds more than {file.ContentsBytes} bytes";
                }

                hash.AppendData(buffer, 0, count);
            }

            string found = Convert.ToHexStringLower(hash.GetHashAndReset());
            return bytes < file.ContentsBytes ? $"it holds {bytes} bytes where {file.ContentsBytes} are expected"
                : found != file.ContentsHash ? $"its contents have the SHA-256 {found[..12]}… where {file.ContentsHash[..12]}… is expected"
                : null;
        }
        catch (InvalidDataException)
        {
            return "it is no gzip file, or damaged";
        }
    }
}
