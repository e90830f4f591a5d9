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
        Assert.SkipWhen(OperatingSystem.IsWindows(), "limiting the size of files needs a Unix shell's ulimit");
        using var folder = new TemporaryFolder();
        using (TrainingProcess first = new(folder.Path, [.. Settings(0), "evaluation.every=0"], stopAfterSteps: 20))
        {
            Assert.Equal(3, await first.WaitForExit());
        }

        // Files may not grow beyond 8 KB now: the logs can go on for a while, the weights cannot be written.
        using TrainingProcess limited = new(folder.Path, [.. Settings(0), "evaluation.every=0"], stopAfterSteps: 5, fileBlocks: 8);
        Assert.Equal(2, await limited.WaitForExit());
        string sentence = Assert.Single(limited.Errors.Split('\n', StringSplitOptions.RemoveEmptyEntries));
        Assert.Contains("Saving the checkpoint of step", sentence, StringComparison.Ordinal);
        Assert.Contains("is intact", sentence, StringComparison.Ordinal);
        var store = new CheckpointStore(folder["checkpoints"]);
        CheckpointStore.Verify(store.PathOf(Assert.Single(store.Steps())));
        Assert.Single(Directory.GetFileSystemEntries(store.Folder));
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
        private readonly int stopAfterSteps;
        private readonly TaskCompletionSource finished = new();

        public TrainingProcess(string folder, string[] settings, int stopAfterSteps = 0, int fileBlocks = 0)
        {
            this.stopAfterSteps = stopAfterSteps;
            string host = typeof(TinyTask).Assembly.Location;
            var start = new ProcessStartInfo { UseShellExecute = false, RedirectStandardOutput = true, RedirectStandardError = true };
            if (fileBlocks > 0)
            {
                // With the signal ignored, a write beyond the limit fails like one to a full disk; the runtime's own mappings must not count.
                start.FileName = "/bin/sh";
                start.ArgumentList.Add("-c");
                start.ArgumentList.Add($"trap '' XFSZ; ulimit -f {fileBlocks * 2}; exec dotnet \"$@\"");
                start.ArgumentList.Add("sh");
                start.Environment["DOTNET_EnableWriteXorExecute"] = "0";
                start.Environment["DOTNET_EnableDiagnostics"] = "0";
            }
            else
            {
                start.FileName = "dotnet";
            }

            foreach (string argument in (string[])[host, folder, .. settings])
            {
                start.ArgumentList.Add(argument);
            }

            process = new Process { StartInfo = start };
            process.OutputDataReceived += (_, line) => Receive(line.Data);
            process.Start();
            process.BeginOutputReadLine();
            errors = process.StandardError.ReadToEndAsync();
        }

        public List<string> Lines { get; } = [];

        public string Errors => errors.Result;

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
            if (stopAfterSteps > 0)
            {
                await WaitForLines(stopAfterSteps, "step ");
                Signal("INT");
            }

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
