using System.Collections.Concurrent;
using ExactFlow.Tensors;
using ExactFlow.Training.Experiments;

namespace ExactFlow.Training.Tests.Experiments;

public class StudyRunnerTests
{
    private sealed record Settings(int Epochs);

    private sealed record Measured(int Square);

    private sealed class Observer : IStudyObserver
    {
        public ConcurrentQueue<StudyProgress> Told { get; } = new();

        public List<string> Finished { get; } = [];

        public void OnBegin(int runs, int finished, int workers)
        {
        }

        public void OnProgress(StudyProgress progress) => Told.Enqueue(progress);

        public void OnFinished(string run, double seconds, string summary, StudyProgress progress)
        {
            Finished.Add($"{run}: {summary}");
            Told.Enqueue(progress);
        }
    }

    private sealed class Counted : IDisposable
    {
        private static int alive;

        public Counted() => Interlocked.Increment(ref alive);

        public static int Alive => alive;

        public void Dispose() => Interlocked.Decrement(ref alive);
    }

    private static StudyFolder<Measured> Open(TemporaryFolder folder) => StudyFolder<Measured>.Open(folder["study"], "toy", new Settings(1));

    private static IReadOnlyList<Func<Device>> Workers(int count) => StudyDevices.Plan("cpu", count, 1, (_, threads) => new CpuDevice(threads));

    private static bool Run(TemporaryFolder folder, IReadOnlyList<StudyRun<Measured>> runs, int workers, Observer observer, CancellationToken stop = default)
    {
        using StudyFolder<Measured> study = Open(folder);
        return new StudyRunner<Measured>(study, runs, Workers(workers), result => $"{result.Square}", observer).Run(stop);
    }

    private static StudyRun<Measured>[] Squares(int count, Action<int>? before = null) => [.. Enumerable.Range(0, count).Select(i => new StudyRun<Measured>($"n={i}", 1 + i, worker =>
    {
        before?.Invoke(i);
        _ = worker.Shared(_ => new Counted());
        worker.Progress(0.5, "half");
        using var step = worker.Device.BeginStep();
        using Tensor tensor = worker.Device.From<float>([i * i], [1]);
        return new Measured((int)tensor.ToHost<float>()[0]);
    }))];

    [Theory]
    [InlineData(1)]
    [InlineData(3)]
    public void Every_run_is_done_once_and_not_again(int workers)
    {
        using var folder = new TemporaryFolder();
        var observer = new Observer();
        Assert.True(Run(folder, Squares(4), workers, observer));
        Assert.Equal(4, observer.Finished.Count);
        Assert.Equal(1, observer.Told.Last().Fraction, 1e-12);
        Assert.True(Run(folder, Squares(7), workers, observer = new Observer()));
        Assert.Equal(["n=4: 16", "n=5: 25", "n=6: 36"], observer.Finished.Order());
        Assert.Equal(Enumerable.Range(0, 7).Select(i => (Name: $"n={i}", Square: i * i)), StudyFolder<Measured>.Read(folder["study"], "toy").Select(record => (record.Run, record.Result.Square)).Order());
        Assert.Equal(0, Counted.Alive);
    }

    [Fact]
    public void Runs_of_several_workers_are_under_way_at_the_same_time()
    {
        using var folder = new TemporaryFolder();
        using var meeting = new Barrier(3);
        Assert.True(Run(folder, Squares(3, _ => Assert.True(meeting.SignalAndWait(TimeSpan.FromSeconds(30)))), 3, new Observer()));
    }

    [Fact]
    public void A_stop_keeps_what_is_finished_and_the_next_call_goes_on()
    {
        using var folder = new TemporaryFolder();
        using var stop = new CancellationTokenSource();
        StudyRun<Measured>[] runs = Squares(5, i =>
        {
            if (i == 2)
            {
                stop.Cancel();
                stop.Token.ThrowIfCancellationRequested();
            }
        });
        Assert.False(Run(folder, runs, 1, new Observer(), stop.Token));
        Assert.Equal(["n=0", "n=1"], StudyFolder<Measured>.Read(folder["study"], "toy").Select(record => record.Run));
        Assert.True(Run(folder, Squares(5), 2, new Observer()));
        Assert.Equal(0, Counted.Alive);
    }

    [Fact]
    public void A_run_that_fails_stops_the_others_and_its_error_comes_out()
    {
        using var folder = new TemporaryFolder();
        StudyRun<Measured>[] runs = Squares(5, i =>
        {
            if (i == 1)
            {
                throw new InvalidInputException("no such data");
            }
        });
        Assert.Equal("no such data", Assert.Throws<InvalidInputException>(() => Run(folder, runs, 1, new Observer())).Message);
        Assert.Equal(["n=0"], StudyFolder<Measured>.Read(folder["study"], "toy").Select(record => record.Run));
        Assert.Equal(0, Counted.Alive);
    }

    [Fact]
    public void Workers_are_spread_over_devices_and_share_the_threads()
    {
        var opened = new List<(string, int)>();
        Device open(string name, int threads)
        {
            opened.Add((name, threads));
            return new CpuDevice(1);
        }

        foreach (Func<Device> each in StudyDevices.Plan("cuda:0,cuda:1", 5, 8, open).Concat(StudyDevices.Plan("cpu", 3, 8, open)).Concat(StudyDevices.Plan("cuda:1, cpu", 0, 8, open)))
        {
            each().Dispose();
        }

        Assert.Equal([("cuda:0", 8), ("cuda:1", 8), ("cuda:0", 8), ("cuda:1", 8), ("cuda:0", 8), ("cpu", 2), ("cpu", 2), ("cpu", 2), ("cuda:1", 8), ("cpu", 8)], opened);
        Assert.Contains("--parallel", Assert.Throws<InvalidInputException>(() => StudyDevices.Plan("cuda,cuda", 2, 1, open)).Message, StringComparison.Ordinal);
    }
}
