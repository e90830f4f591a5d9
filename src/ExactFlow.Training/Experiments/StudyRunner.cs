using System.Diagnostics;
using ExactFlow.Cuda;
using ExactFlow.Tensors;
using ExactFlow.Training.Runs;

namespace ExactFlow.Training.Experiments;

/// <summary>
/// Does the runs of a study that are not finished yet, several at once: each worker is a thread with a device of its own, which may be a lane (stream) of a GPU
/// that other workers use too, and takes the next run from the list when it is done with one.
/// </summary>
/// <typeparam name="TResult">What a run measures.</typeparam>
public sealed class StudyRunner<TResult>
    where TResult : class
{
    private readonly StudyFolder<TResult> folder;
    private readonly IReadOnlyList<StudyRun<TResult>> runs;
    private readonly IReadOnlyList<Func<Device>> openDevices;
    private readonly Func<TResult, string> summarize;
    private readonly IStudyObserver observer;
    private readonly Lock telling = new();
    private readonly double[] fractions;
    private readonly double[] works;
    private readonly Queue<StudyRun<TResult>> waiting;
    private readonly double allWork;
    private readonly double workBefore;
    private double workDone;
    private int finished;
    private long start;

    /// <summary>Prepares; nothing is opened yet.</summary>
    /// <param name="folder">Where results go, and which runs are finished.</param>
    /// <param name="runs">All runs, in the order in which they are begun.</param>
    /// <param name="openDevices">One per worker: opens its device, called on the worker's thread.</param>
    /// <param name="summarize">A result in a few words, for the observer.</param>
    /// <param name="observer">Is told what happens.</param>
    public StudyRunner(StudyFolder<TResult> folder, IReadOnlyList<StudyRun<TResult>> runs, IReadOnlyList<Func<Device>> openDevices, Func<TResult, string> summarize, IStudyObserver observer)
    {
        this.folder = folder ?? throw new ArgumentNullException(nameof(folder));
        this.runs = runs ?? throw new ArgumentNullException(nameof(runs));
        this.summarize = summarize ?? throw new ArgumentNullException(nameof(summarize));
        this.observer = observer ?? throw new ArgumentNullException(nameof(observer));
        ArgumentNullException.ThrowIfNull(openDevices);
        ArgumentOutOfRangeException.ThrowIfZero(openDevices.Count);
        waiting = new Queue<StudyRun<TResult>>(runs.Where(run => !folder.Has(run.Name)));
        this.openDevices = [.. openDevices.Take(Math.Max(1, waiting.Count))];
        finished = runs.Count - waiting.Count;
        allWork = runs.Sum(run => run.Work);
        workBefore = workDone = allWork - waiting.Sum(run => run.Work);
        fractions = new double[this.openDevices.Count];
        works = new double[this.openDevices.Count];
    }

    /// <summary>Does what is left.</summary>
    /// <param name="stop">Asks to stop: runs under way are given up, finished ones are kept.</param>
    /// <returns>Whether all runs are finished.</returns>
    /// <exception cref="InvalidInputException">A device cannot be opened, or a run cannot be done; the others are stopped, finished ones are kept.</exception>
    public bool Run(CancellationToken stop)
    {
        start = Stopwatch.GetTimestamp();
        observer.OnBegin(runs.Count, finished, openDevices.Count);
        if (waiting.Count == 0)
        {
            return true;
        }

        using var stopping = CancellationTokenSource.CreateLinkedTokenSource(stop);
        var failures = new Exception?[openDevices.Count];
        Thread[] threads = [.. openDevices.Select((open, index) => new Thread(() =>
        {
            try
            {
                Work(index, open, stopping.Token);
            }
            catch (OperationCanceledException) when (stopping.IsCancellationRequested)
            {
                // Asked for.
            }
            catch (Exception exception)
            {
                failures[index] = exception;
                stopping.Cancel();
            }
        })
        { IsBackground = true, Name = $"study worker {index}" })];
        foreach (Thread thread in threads)
        {
            thread.Start();
        }

        foreach (Thread thread in threads)
        {
            thread.Join();
        }

        if (Array.Find(failures, failure => failure is not null) is { } first)
        {
            System.Runtime.ExceptionServices.ExceptionDispatchInfo.Throw(first);
        }

        return finished == runs.Count;
    }

    private void Work(int index, Func<Device> open, CancellationToken stop)
    {
        StudyRun<TResult>? run = null;
        using var worker = new StudyWorker(index, open(), (fraction, status) => Tell(index, run!, fraction, status), stop);
        string device = worker.Device is CudaDevice gpu ? gpu.ModelName : MachineDescription.Processor();
        while (!stop.IsCancellationRequested && (run = Next(index)) is not null)
        {
            long begin = Stopwatch.GetTimestamp();
            Tell(index, run, 0, string.Empty);
            TResult result = run.Execute(worker);
            double seconds = Stopwatch.GetElapsedTime(begin).TotalSeconds;
            folder.Add(new StudyRecord<TResult>(run.Name, device, MachineDescription.Commit(), seconds, result));
            lock (telling)
            {
                finished++;
                workDone += run.Work;
                works[index] = fractions[index] = 0;
                observer.OnFinished(run.Name, seconds, summarize(result), Progress(index, run, 1, string.Empty));
            }
        }
    }

    private StudyRun<TResult>? Next(int index)
    {
        lock (telling)
        {
            if (!waiting.TryDequeue(out StudyRun<TResult>? run))
            {
                return null;
            }

            works[index] = run.Work;
            return run;
        }
    }

    private void Tell(int index, StudyRun<TResult> run, double fraction, string status)
    {
        lock (telling)
        {
            fractions[index] = fraction;
            observer.OnProgress(Progress(index, run, fraction, status));
        }
    }

    private StudyProgress Progress(int index, StudyRun<TResult> run, double fraction, string status)
    {
        double done = workDone;
        for (int i = 0; i < works.Length; i++)
        {
            done += works[i] * fractions[i];
        }

        double now = done - workBefore;
        double left = now > 0 ? Stopwatch.GetElapsedTime(start).TotalSeconds * (allWork - done) / now : double.NaN;
        return new StudyProgress(index, run.Name, fraction, status, finished, runs.Count, allWork > 0 ? done / allWork : 1, left);
    }
}
