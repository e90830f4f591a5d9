using ExactFlow.Tensors;

namespace ExactFlow.Training.Experiments;

/// <summary>One of the threads that do the runs of a study, with a device of its own.</summary>
public sealed class StudyWorker : IDisposable
{
    private readonly Dictionary<Type, IDisposable> kept = [];
    private readonly Action<double, string> progress;

    /// <summary>Takes over the device.</summary>
    internal StudyWorker(int index, Device device, Action<double, string> progress, CancellationToken stop)
    {
        (Index, Device, this.progress, Stop) = (index, device, progress, stop);
    }

    /// <summary>Counted from 0.</summary>
    public int Index { get; }

    /// <summary>Where runs compute; used by this worker's thread alone.</summary>
    public Device Device { get; }

    /// <summary>Asks the run to end.</summary>
    public CancellationToken Stop { get; }

    /// <summary>What runs of this worker share, such as a data set on its device: made by the first that asks, disposed with the worker.</summary>
    /// <typeparam name="T">One object of each type is kept.</typeparam>
    public T Shared<T>(Func<Device, T> create)
        where T : class, IDisposable
    {
        ArgumentNullException.ThrowIfNull(create);
        if (!kept.TryGetValue(typeof(T), out IDisposable? value))
        {
            kept.Add(typeof(T), value = create(Device));
        }

        return (T)value;
    }

    /// <summary>Tells how far the run is.</summary>
    /// <param name="fraction">From 0 to 1.</param>
    /// <param name="status">What to show beside it, such as the loss; may be empty.</param>
    public void Progress(double fraction, string status) => progress(fraction, status);

    /// <inheritdoc/>
    public void Dispose()
    {
        foreach (IDisposable value in kept.Values)
        {
            value.Dispose();
        }

        Device.Dispose();
    }
}
