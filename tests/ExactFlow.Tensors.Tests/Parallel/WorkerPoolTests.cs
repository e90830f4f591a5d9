using ExactFlow.Tensors.Parallel;

namespace ExactFlow.Tensors.Tests;

/// <summary>Parallel loops: every index once, by a worker of its own number, whatever happens around them.</summary>
public sealed unsafe class WorkerPoolTests
{
    [Theory]
    [InlineData(1, 0)]
    [InlineData(1, 100)]
    [InlineData(2, 1)]
    [InlineData(2, 1001)]
    [InlineData(7, 3)]
    [InlineData(7, 10_000)]
    public void RunsEveryIndexOnce(int workerCount, int iterations)
    {
        using var workers = new WorkerPool(workerCount);
        var seen = new int[iterations + 1];
        var busy = new int[workerCount];
        var clashes = 0;
        fixed (int* pSeen = seen, pBusy = busy)
        {
            workers.For(iterations, new Count(pSeen, pBusy, &clashes));
        }

        Assert.All(seen[..iterations], times => Assert.Equal(1, times));
        Assert.Equal(0, seen[iterations]);
        Assert.Equal(0, clashes);
    }

    [Fact]
    public void SurvivesManyShortLoops()
    {
        using var workers = new WorkerPool(4);
        long total = 0;
        for (int i = 0; i < 20_000; i++)
        {
            workers.For(1 + (i % 9), new Add(&total));
            if (i % 4000 == 0)
            {
                // Long enough for the workers to fall asleep.
                Thread.Sleep(30);
            }
        }

        Assert.Equal(Enumerable.Range(0, 20_000).Sum(i => (long)(1 + (i % 9))), total);
    }

    [Fact]
    public void RunsANestedLoopOnTheSameWorker()
    {
        using var workers = new WorkerPool(3);
        var inner = new int[50 * 40];
        var wrong = 0;
        fixed (int* pInner = inner)
        {
            workers.For(50, new Outer(workers, pInner, &wrong));
        }

        Assert.All(inner, times => Assert.Equal(1, times));
        Assert.Equal(0, wrong);
    }

    [Theory]
    [InlineData(0)]
    [InlineData(57)]
    [InlineData(99)]
    public void PassesOnTheFirstExceptionAndGoesOnWorking(int failing)
    {
        using var workers = new WorkerPool(3);
        for (int i = 0; i < 20; i++)
        {
            AggregateException exception = Assert.Throws<AggregateException>(() => workers.For(100, new Fail(failing)));
            Assert.Equal($"index {failing}", Assert.Single(exception.InnerExceptions).Message);
            long total = 0;
            workers.For(100, new Add(&total));
            Assert.Equal(100, total);
        }
    }

    [Fact]
    public void SerialisesLoopsOfTwoCallers()
    {
        using var workers = new WorkerPool(2);
        long first = 0;
        long second = 0;
        long* pFirst = &first;
        long* pSecond = &second;
        var other = new Thread(() =>
        {
            for (int i = 0; i < 2000; i++)
            {
                workers.For(10, new Add(pSecond));
            }
        });
        other.Start();
        for (int i = 0; i < 2000; i++)
        {
            workers.For(10, new Add(pFirst));
        }

        other.Join();
        Assert.Equal(20_000, first);
        Assert.Equal(20_000, second);
    }

    [Fact]
    public void EndsItsThreadsWhenDisposedTwice()
    {
        for (int i = 0; i < 50; i++)
        {
            var workers = new WorkerPool(4);
            long total = 0;
            if (i % 2 == 0)
            {
                workers.For(8, new Add(&total));
            }

            workers.Dispose();
            workers.Dispose();
        }
    }

    [Fact]
    public void AllocatesNothing()
    {
        using var workers = new WorkerPool(2);
        long total = 0;
        workers.For(10, new Add(&total));
        long before = GC.GetAllocatedBytesForCurrentThread();
        for (int i = 0; i < 1000; i++)
        {
            workers.For(10, new Add(&total));
        }

        Assert.Equal(before, GC.GetAllocatedBytesForCurrentThread());
    }

    [Fact]
    public void RefusesToHaveNoWorker() => Assert.Throws<ArgumentOutOfRangeException>(() => new WorkerPool(0));

    private readonly struct Count(int* seen, int* busy, int* clashes) : IParallelBody
    {
        public void Run(int index, int worker)
        {
            if (Interlocked.Exchange(ref busy[worker], 1) != 0)
            {
                Interlocked.Increment(ref *clashes);
            }

            Interlocked.Increment(ref seen[index]);
            Volatile.Write(ref busy[worker], 0);
        }
    }

    private readonly struct Add(long* total) : IParallelBody
    {
        public void Run(int index, int worker) => Interlocked.Increment(ref *total);
    }

    private readonly struct Fail(int failing) : IParallelBody
    {
        public void Run(int index, int worker)
        {
            if (index == failing)
            {
                throw new InvalidOperationException($"index {index}");
            }
        }
    }

    private readonly struct Outer(WorkerPool workers, int* inner, int* wrong) : IParallelBody
    {
        public void Run(int index, int worker) => workers.For(40, new Inner(inner + (index * 40), worker, wrong));
    }

    private readonly struct Inner(int* seen, int outerWorker, int* wrong) : IParallelBody
    {
        public void Run(int index, int worker)
        {
            Interlocked.Increment(ref seen[index]);
            if (worker != outerWorker)
            {
                Interlocked.Increment(ref *wrong);
            }
        }
    }
}
