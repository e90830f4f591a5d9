using System.Diagnostics;
using System.Globalization;
using System.Security.Cryptography;
using ExactFlow.Tensors.Randomness;
using ExactFlow.Training.Checkpoints;
using ExactFlow.Training.Host;

namespace ExactFlow.Training.Tests;

/// <summary>Real processes, really killed: whatever the moment, the run goes on from where its last checkpoint left it and ends with the same bits.</summary>
public class KilledRunTests
{
    private const int Steps = 400;
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(60);

    private static string[] Settings(int checkpointEvery) =>
    [
        $"steps={Steps}", "data.sequence_length=20", "data.batch_size=3", "data.accumulation=2", "evaluation.every=25", "evaluation.sample_every=50",
        $"checkpoints.every={checkpointEvery}", "checkpoints.keep_best=true", "optimizer.learning_rate=0.01",
    ];

    // One checkpoint a step: nearly every moment lies within one. One in 60 steps: nearly every moment lies within training.
    [Theory]
    [InlineData(1)]
    [InlineData(60)]
    public async Task Kill_at_any_moment_ten_times_and_nothing_differs(int checkpointEvery)
    {
        string[] settings = Settings(checkpointEvery);
        using var unbrokenFolder = new TemporaryFolder();
        using var folder = new TemporaryFolder();
        using (TrainingProcess unbroken = new(unbrokenFolder.Path, settings))
        {
            Assert.Equal(0, await unbroken.WaitForExit());
        }

        // The process says which step it is at; it is killed some steps and some fraction of a step later.
        var moments = new Philox((ulong)checkpointEvery, 0);
        int kills = 0;
        for (int attempt = 0; attempt < 10; attempt++)
        {
            using TrainingProcess process = new(folder.Path, settings);
            int steps = attempt == 0 ? 0 : 1 + moments.Below((ulong)attempt, 45);
            await process.WaitForLines(steps, "step ");
            await Task.Delay(TimeSpan.FromMilliseconds(moments.Uniform(100 + (ulong)attempt, 0, 12)));
            kills += process.Kill() ? 1 : 0;
        }

        using (TrainingProcess last = new(folder.Path, settings))
        {
            Assert.Equal(0, await last.WaitForExit());
        }

        Assert.InRange(kills, 5, 10);
        Assert.Equal(File.ReadAllText(unbrokenFolder["metrics.jsonl"]), File.ReadAllText(folder["metrics.jsonl"]));
        Assert.Equal(Hashes(unbrokenFolder.Path), Hashes(folder.Path));
        Assert.Equal(Steps, File.ReadLines(folder["timings.jsonl"]).Count());
    }

    [Theory]
    [InlineData("INT")]
    [InlineData("TERM")]
    public async Task A_stop_signal_ends_the_run_with_a_checkpoint(string signal)
    {
        Assert.SkipWhen(OperatingSystem.IsWindows(), "sending POSIX signals needs kill, which Windows lacks");
        Assert.SkipWhen(TrainingProcess.IsIgnored(signal), $"this process was started with {signal} ignored (in the background, say), and its children inherit that");
        using var folder = new TemporaryFolder();
        string[] settings = [.. Settings(0), "steps=100000", "evaluation.every=0", "evaluation.sample_every=0"];
        using TrainingProcess process = new(folder.Path, settings);
        await process.WaitForLines(5, "step ");
        process.Signal(signal);
        Assert.Equal(3, await process.WaitForExit());

        var store = new CheckpointStore(folder["checkpoints"]);
        int step = Assert.Single(store.Steps());
        CheckpointStore.Verify(store.PathOf(step));
        Assert.Equal(step, File.ReadLines(folder["metrics.jsonl"]).Count());
        Assert.Equal($"checkpoint {step}", process.Lines[^1]);
    }

    [Fact]
    public async Task A_full_disk_is_a_sentence_and_leaves_the_last_checkpoint()
    {
        Assert.SkipUnless(TrainingProcess.CanMountSmallDisk(), "a small disk of its own needs unshare and mount (Linux, with user namespaces allowed)");
        using var copy = new TemporaryFolder();

        // A disk of 256 KB holds the logs and a few checkpoints of some 45 KB, and then it is full.
        using TrainingProcess process = new(copy.Path, [.. Settings(5), "evaluation.every=0", "checkpoints.keep_last=1000"], onSmallDisk: true);
        Assert.Equal(2, await process.WaitForExit());

        string sentence = Assert.Single(process.Errors.Split('\n', StringSplitOptions.RemoveEmptyEntries));
        Assert.Contains("Saving the checkpoint of step", sentence, StringComparison.Ordinal);
        Assert.Contains("is full", sentence, StringComparison.Ordinal);
        var store = new CheckpointStore(copy["checkpoints"]);
        Assert.Contains($"the checkpoint of step {store.Steps()[0]} is intact", sentence, StringComparison.Ordinal);
        Assert.InRange(store.Steps().Count, 2, 6);
        Assert.Equal(store.PathOf(store.Steps()[0]), store.FindNewest(Assert.Fail));
        Assert.Equal(store.Steps().Count, Directory.GetFileSystemEntries(store.Folder).Length);
    }

    private static SortedDictionary<string, string> Hashes(string folder)
    {
        var hashes = new SortedDictionary<string, string>(StringComparer.Ordinal);
        foreach (string path in Directory.GetFiles(Path.Combine(folder, "checkpoints"), "*", SearchOption.AllDirectories))
        {
            // Log lengths in state.json count the timings too, whose digits differ from run to run; the manifest hashes state.json.
            if (Path.GetExtension(path) == ".safetensors")
            {
                hashes.Add(Path.GetRelativePath(folder, path), Convert.ToHexString(SHA256.HashData(File.ReadAllBytes(path))));
            }
        }

        Assert.NotEmpty(hashes);
        return hashes;
    }

    /// <summary>A child process that trains the tiny model, with its lines as they come.</summary>
    private sealed class TrainingProcess : IDisposable
    {
        private readonly Process process;
        private readonly SemaphoreSlim arrived = new(0);
        private readonly Task<string> errors;
        private readonly TaskCompletionSource finished = new();

        public TrainingProcess(string folder, string[] settings, bool onSmallDisk = false)
        {
            var start = new ProcessStartInfo { UseShellExecute = false, RedirectStandardOutput = true, RedirectStandardError = true, FileName = "dotnet" };
            if (onSmallDisk)
            {
                // The disk is seen by this process only and vanishes with it, so what is on it is copied out at the end.
                start.FileName = "unshare";
                const string Script = "host=$1; shift; mount -t tmpfs -o size=256k none /mnt && dotnet \"$host\" /mnt/run \"$@\"; code=$?; cp -r /mnt/run/. \"$0\"; exit $code";
                start.ArgumentList.Add("-rm");
                start.ArgumentList.Add("sh");
                start.ArgumentList.Add("-c");
                start.ArgumentList.Add(Script);
                start.ArgumentList.Add(folder);
                start.ArgumentList.Add(typeof(TinyTask).Assembly.Location);
            }
            else
            {
                start.ArgumentList.Add(typeof(TinyTask).Assembly.Location);
                start.ArgumentList.Add(folder);
            }

            foreach (string setting in settings)
            {
                start.ArgumentList.Add(setting);
            }

            process = new Process { StartInfo = start };
            process.OutputDataReceived += (_, line) => Receive(line.Data);
            process.Start();
            process.BeginOutputReadLine();
            errors = process.StandardError.ReadToEndAsync();
        }

        public List<string> Lines { get; } = [];

        public string Errors => errors.Result;

        /// <summary>Whether this process ignores a signal, as its children then do: a mask in hexadecimal, bit n - 1 for signal n.</summary>
        public static bool IsIgnored(string signal)
        {
            const string Mask = "SigIgn:";
            string? line = File.Exists("/proc/self/status") ? File.ReadLines("/proc/self/status").FirstOrDefault(text => text.StartsWith(Mask, StringComparison.Ordinal)) : null;
            int number = signal == "INT" ? 2 : 15;
            return line is not null && ((Convert.ToUInt64(line[Mask.Length..].Trim(), 16) >> (number - 1)) & 1) != 0;
        }

        public static bool CanMountSmallDisk()
        {
            try
            {
                using Process probe = Process.Start(new ProcessStartInfo("unshare", ["-rm", "mount", "-t", "tmpfs", "none", "/mnt"]) { UseShellExecute = false, RedirectStandardError = true })!;
                probe.WaitForExit();
                return probe.ExitCode == 0;
            }
            catch (System.ComponentModel.Win32Exception)
            {
                return false;
            }
        }

        public async Task WaitForLines(int count, string prefix)
        {
            using var patience = new CancellationTokenSource(Patience);
            while (Count(prefix) < count && !finished.Task.IsCompleted)
            {
                await arrived.WaitAsync(patience.Token);
            }
        }

        public async Task<int> WaitForExit()
        {
            using var patience = new CancellationTokenSource(Patience);
            await finished.Task.WaitAsync(patience.Token);
            await process.WaitForExitAsync(patience.Token);
            return process.ExitCode;
        }

        public bool Kill()
        {
            if (process.HasExited)
            {
                return false;
            }

            process.Kill();
            process.WaitForExit();
            return true;
        }

        public void Signal(string name)
        {
            using Process kill = Process.Start("kill", ["-" + name, process.Id.ToString(CultureInfo.InvariantCulture)]);
            kill.WaitForExit();
        }

        public void Dispose()
        {
            Kill();
            process.Dispose();
            arrived.Dispose();
        }

        private int Count(string prefix)
        {
            lock (Lines)
            {
                return Lines.Count(line => line.StartsWith(prefix, StringComparison.Ordinal));
            }
        }

        private void Receive(string? line)
        {
            if (line is null)
            {
                finished.TrySetResult();
            }
            else
            {
                lock (Lines)
                {
                    Lines.Add(line);
                }
            }

            arrived.Release();
        }
    }
}
