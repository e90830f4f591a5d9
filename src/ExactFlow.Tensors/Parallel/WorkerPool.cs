using System.Runtime.CompilerServices;

namespace ExactFlow.Tensors.Parallel;

/// <summary>
/// A fixed set of threads that run parallel loops without allocating.
/// The calling thread is worker 0 and takes part; <see cref="WorkerCount"/> - 1 threads wait for loops.
/// Indices are handed out dynamically, so a body must write only what belongs to its index (or its worker):
/// results then do not depend on which worker ran what.
/// Loops are serialised: two threads may call <see cref="For{TBody}"/> at once, the second waits. A loop started inside a loop runs on the calling worker alone.
/// </summary>
public sealed unsafe class WorkerPool : IDisposable
{
    /// <summary>How long an idle worker spins before it sleeps; a training step starts hundreds of short loops.</summary>
    private const int SpinIterations = 2_000;

    [ThreadStatic]
    private static bool insideLoop;

    [ThreadStatic]
    private static int currentWorker;

    private readonly object loopGate = new();
    private readonly Thread[] threads;

    // One semaphore for each sleeper: a shared one lets a worker that is done take the permit meant for one that has yet to wake.
    private readonly SemaphoreSlim[] wake;
    private readonly int[] asleep;
    private volatile bool stopping;

    // The current loop. `generation` is published last; `pending` counts the workers that have not left the loop.
    private delegate*<void*, int, int, void> body;
    private void* state;
    private int count;
    private int next;
    private int pending;
    private volatile int generation;
    private Exception? failure;

    /// <summary>Starts the workers.</summary>
    /// <param name="workerCount">Number of workers including the caller, at least 1.</param>
    public WorkerPool(int workerCount)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(workerCount, 1);
        WorkerCount = workerCount;
        threads = new Thread[workerCount - 1];
        wake = new SemaphoreSlim[workerCount - 1];
        asleep = new int[workerCount - 1];
        for (int i = 0; i < threads.Length; i++)
        {
            int worker = i + 1;
            wake[i] = new SemaphoreSlim(0);
            threads[i] = new Thread(() => WorkerLoop(worker)) { IsBackground = true, Name = $"ExactFlow worker {worker}" };
            threads[i].Start();
        }
    }

    /// <summary>Workers that share each loop, the calling thread included.</summary>
    public int WorkerCount { get; }

    /// <summary>Runs <paramref name="loopBody"/> for every index in [0, <paramref name="iterations"/>) and returns when all are done.</summary>
    /// <exception cref="AggregateException">A body threw; the first exception is inside and the remaining indices were skipped.</exception>
    public void For<TBody>(int iterations, TBody loopBody)
        where TBody : struct, IParallelBody
    {
        if (iterations <= 0)
        {
            return;
        }

        if (WorkerCount == 1 || iterations == 1 || insideLoop)
        {
            RunHere(iterations, ref loopBody);
            return;
        }

        lock (loopGate)
        {
            // The struct lives in this frame, which outlives the loop: its address may be shared.
            body = &Invoke<TBody>;
            state = Unsafe.AsPointer(ref loopBody);
            count = iterations;
            next = 0;
            failure = null;
            pending = threads.Length;
            Interlocked.Increment(ref generation);
            WakeSleepers();
            insideLoop = true;
            try
            {
                Drain(0);
            }
            finally
            {
                insideLoop = false;
            }

            SpinWait spin = default;
            while (Volatile.Read(ref pending) != 0)
            {
                spin.SpinOnce(sleep1Threshold: -1);
            }

            if (failure is { } exception)
            {
                throw new AggregateException(exception);
            }
        }
    }

    /// <summary>Stops the workers; a loop in progress finishes first.</summary>
    public void Dispose()
    {
        lock (loopGate)
        {
            if (stopping)
            {
                return;
            }

            stopping = true;
            Interlocked.Increment(ref generation);
            WakeSleepers();
        }

        foreach (Thread thread in threads)
        {
            thread.Join();
        }

        foreach (SemaphoreSlim semaphore in wake)
        {
            semaphore.Dispose();
        }
    }

    private static void RunHere<TBody>(int iterations, ref TBody loopBody)
        where TBody : struct, IParallelBody
    {
        int worker = currentWorker;
        for (int i = 0; i < iterations; i++)
        {
            loopBody.Run(i, worker);
        }
    }

    private static void Invoke<TBody>(void* state, int index, int worker)
        where TBody : struct, IParallelBody
        => Unsafe.AsRef<TBody>(state).Run(index, worker);

    /// <summary>
    /// Called after `generation` changed: a worker either reads the new generation after announcing its sleep, or its announcement is seen here.
    /// A permit that comes too late only makes a later wait look once more.
    /// </summary>
    private void WakeSleepers()
    {
        for (int i = 0; i < asleep.Length; i++)
        {
            if (Interlocked.Exchange(ref asleep[i], 0) != 0)
            {
                wake[i].Release();
            }
        }
    }

    private void Drain(int worker)
    {
        try
        {
            int index;
            while ((index = Interlocked.Increment(ref next) - 1) < count)
            {
                body(state, index, worker);
            }
        }
        catch (Exception exception)
        {
            Interlocked.CompareExchange(ref failure, exception, null);
            Volatile.Write(ref next, count);
        }
    }

    private void WorkerLoop(int worker)
    {
        insideLoop = true;
        currentWorker = worker;
        int seen = 0;
        while (true)
        {
            seen = WaitForLoop(seen, worker - 1);
            if (stopping)
            {
                return;
            }

            Drain(worker);
            Interlocked.Decrement(ref pending);
        }
    }

    /// <summary>Waits until the generation differs from <paramref name="seen"/>: spinning first, then asleep.</summary>
    private int WaitForLoop(int seen, int thread)
    {
        for (int i = 0; i < SpinIterations; i++)
        {
            if (generation != seen)
            {
                return generation;
            }

            Thread.SpinWait(20);
        }

        while (generation == seen)
        {
            Interlocked.Exchange(ref asleep[thread], 1);
            if (generation == seen)
            {
                wake[thread].Wait();
            }

            Volatile.Write(ref asleep[thread], 0);
        }

        return generation;
    }
}
