using System.Runtime.CompilerServices;

namespace ExactFlow.Tensors.Parallel;

/// <summary>
/// A fixed set of threads that run parallel loops without allocating.
/// The calling thread is worker 0 and takes part; <see cref="WorkerCount"/> - 1 threads wait for loops.
/// Indices are handed out dynamically, so a body must write only what belongs to its index (or its worker):
/// results then do not depend on which worker ran what.
/// A loop ends when its indices are done and the workers that took part have left it: one that the system has not scheduled meanwhile is not waited for.
/// Loops are serialised: two threads may call <see cref="For{TBody}"/> at once, the second waits. A loop started inside a loop runs on the calling worker alone.
/// </summary>
public sealed unsafe class WorkerPool : IDisposable
{
    /// <summary>How long an idle worker spins before it sleeps, about 1.5 ms: a training step starts hundreds of short loops.</summary>
    private const int SpinIterations = 5_000;

    /// <summary>Set in <see cref="gate"/> while workers may enter the loop; the lower bits count those inside.</summary>
    private const long Open = 1L << 31;

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

    // The current loop. Its fields are written while nobody is inside, then the gate is opened and the generation announced.
    private delegate*<void*, int, int, void> body;
    private void* state;
    private int count;
    private int next;
    private long gate;
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
            Volatile.Write(ref gate, Open);
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

            // From here on nobody enters; those inside may be at work on the last indices.
            Interlocked.And(ref gate, ~Open);
            SpinWait spin = default;
            while (Volatile.Read(ref gate) != 0)
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

            if (TryEnter())
            {
                Drain(worker);
                Interlocked.Decrement(ref gate);
            }
        }
    }

    /// <summary>Enters the loop unless it has ended already (or ends and a later one begins: then that one).</summary>
    private bool TryEnter()
    {
        long seen = Volatile.Read(ref gate);
        while ((seen & Open) != 0)
        {
            long before = Interlocked.CompareExchange(ref gate, seen + 1, seen);
            if (before == seen)
            {
                return true;
            }

            seen = before;
        }

        return false;
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

            Thread.SpinWait(8);
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
