using System.Collections.Concurrent;
using System.Globalization;
using System.Net;
using System.Net.Sockets;
using System.Text;

namespace ExactFlow.Training.Tests.Data.Downloads;

/// <summary>An HTTP server on this machine that answers each request as a script says, honestly or not.</summary>
internal sealed class LoopbackServer : IDisposable
{
    private readonly TcpListener listener = new(IPAddress.Loopback, 0);
    private readonly CancellationTokenSource closed = new();
    private readonly Func<Request, Answer> script;

    public LoopbackServer(Func<Request, Answer> script)
    {
        this.script = script;
        listener.Start();
        _ = Task.Run(Accept);
    }

    public Uri Address => new($"http://127.0.0.1:{((IPEndPoint)listener.LocalEndpoint).Port}/");

    /// <summary>What was asked for, as <c>path from byte</c>.</summary>
    public ConcurrentQueue<Request> Requests { get; } = new();

    public void Dispose()
    {
        closed.Cancel();
        listener.Stop();
        closed.Dispose();
    }

    /// <summary>What a client asks for.</summary>
    public readonly record struct Request(string Path, long From);

    /// <summary>What it gets.</summary>
    public sealed record Answer(int Status, byte[] Body)
    {
        /// <summary>More lines of the head.</summary>
        public string[] Headers { get; init; } = [];

        /// <summary>Bytes of the body to send before the connection is cut; all if null.</summary>
        public int? CutAfter { get; init; }

        /// <summary>Whether the connection stays open and silent where it would be cut.</summary>
        public bool Stalls { get; init; }

        /// <summary>The rest of a file, as ranges are answered; the whole from 0 on.</summary>
        public static Answer Of(byte[] file, Request request) => request.From == 0 ? new Answer(200, file)
            : request.From >= file.Length ? new Answer(416, [])
            : new Answer(206, file[(int)request.From..]) { Headers = [string.Create(CultureInfo.InvariantCulture, $"Content-Range: bytes {request.From}-{file.Length - 1}/{file.Length}")] };
    }

    private async Task Accept()
    {
        try
        {
            while (true)
            {
                TcpClient client = await listener.AcceptTcpClientAsync(closed.Token);
                _ = Task.Run(() => Serve(client));
            }
        }
        catch (Exception exception) when (exception is OperationCanceledException or SocketException or ObjectDisposedException)
        {
            // The test is over.
        }
    }

    private async Task Serve(TcpClient client)
    {
        using (client)
        {
            NetworkStream stream = client.GetStream();
            using var reader = new StreamReader(stream, Encoding.ASCII, leaveOpen: true);
            string path = (await reader.ReadLineAsync())!.Split(' ')[1];
            long from = 0;
            while (await reader.ReadLineAsync() is { Length: > 0 } line)
            {
                if (line.StartsWith("Range: bytes=", StringComparison.OrdinalIgnoreCase))
                {
                    from = long.Parse(line["Range: bytes=".Length..].TrimEnd('-'));
                }
            }

            var request = new Request(path, from);
            Requests.Enqueue(request);
            Answer answer = script(request);
            string[] head = [$"HTTP/1.1 {answer.Status} Said", $"Content-Length: {answer.Body.Length}", "Connection: close", .. answer.Headers, "", ""];
            await stream.WriteAsync(Encoding.ASCII.GetBytes(string.Join("\r\n", head)));
            await stream.WriteAsync(answer.Body.AsMemory(0, answer.CutAfter ?? answer.Body.Length));
            if (answer.Stalls)
            {
                await Task.Delay(Timeout.Infinite, closed.Token).ContinueWith(_ => { }, TaskScheduler.Default);
            }
        }
    }
}
