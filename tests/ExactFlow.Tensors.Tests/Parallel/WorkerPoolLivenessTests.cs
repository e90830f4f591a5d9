using System.Diagnostics;
using ExactFlow.Tensors.Parallel;

namespace ExactFlow.Tensors.Tests;

public sealed class WorkerPoolLivenessTests
{
    /// <summary>
    /// More workers than processors, and pauses around the time after which idle workers fall asleep: some sleep, some spin when the next loop starts.
    /// Every loop must still end, with every index run once.
    /// </summary>
    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3)]
    [InlineData(7)]
    public async Task LoopsEndWhetherWorkersSleepOrSpin(int workers)
        => Assert.Null(await Task.Run(() => RunLoops(workers)).WaitAsync(TimeSpan.FromSeconds(60)));

    [Fact]
    public async Task DisposeEndsWorkersThatSleepAndWorkersThatSpin()
        => await Task.Run(MakeAndDispose).WaitAsync(TimeSpan.FromSeconds(60));

    [Fact]
    public unsafe void AnExceptionOfABodyComesOutOfTheLoopAndThePoolStaysUsable()
    {
        using var pool = new WorkerPool(3);

        AggregateException exception = Assert.Throws<AggregateException>(() => pool.For(100, new FailingBody()));

        Assert.IsType<InvalidOperationException>(exception.InnerException);
        int* runs = stackalloc int[10];
        new Span<int>(runs, 10).Clear();
        pool.For(10, new CountingBody { Runs = runs });
        Assert.Equal([1, 1, 1, 1, 1, 1, 1, 1, 1, 1], new Span<int>(runs, 10).ToArray());
    }

    private static void MakeAndDispose()
    {
        for (int i = 0; i < 20; i++)
        {
            using var pool = new WorkerPool(4);
            Pause(TimeSpan.FromMilliseconds(i % 4));
        }
    }

    private static unsafe string? RunLoops(int workers)
    {
        using var pool = new WorkerPool(workers);
        int* runs = stackalloc int[33];
        for (int loop = 0; loop < 300; loop++)
        {
            int count = 1 + (loop % 33);
            new Span<int>(runs, 33).Clear();
            pool.For(count, new CountingBody { Runs = runs });
            for (int i = 0; i < 33; i++)
            {
                if (runs[i] != (i < count ? 1 : 0))
                {
                    return $"Index {i} of a loop of {count} ran {runs[i]} times.";
                }
            }

            Pause(TimeSpan.FromMicroseconds(loop % 7 * 300));
        }

        return null;
    }

    private static void Pause(TimeSpan time)
    {
        long start = Stopwatch.GetTimestamp();
        while (Stopwatch.GetElapsedTime(start) < time)
        {
            Thread.SpinWait(20);
        }
    }

    private unsafe struct CountingBody : IParallelBody
    {
        public int* Runs;

        public readonly void Run(int index, int worker)
        {
            Thread.SpinWait(50);
            Interlocked.Increment(ref Runs[index]);
        }
    }

    private struct FailingBody : IParallelBody
    {
        public readonly void Run(int index, int worker)
        {
            if (index == 50)
            {
                throw new InvalidOperationException("index 50");
            }
        }
    }
}
