namespace ExactFlow.Cuda;

/// <summary>Measures how long queued work takes on the device, between <see cref="Start"/> and <see cref="Stop"/>.</summary>
public sealed class CudaTimer : IDisposable
{
    private readonly CudaDevice device;
    private readonly nint start;
    private readonly nint stop;
    private bool isDisposed;

    /// <summary>Makes the two marks that will be queued.</summary>
    public CudaTimer(CudaDevice device)
    {
        ArgumentNullException.ThrowIfNull(device);
        this.device = device;
        device.UseOnThisThread();
        device.Check(device.Driver.EventCreate(out start, 0), "cuEventCreate");
        CudaResult second = device.Driver.EventCreate(out stop, 0);
        if (second != CudaResult.Success)
        {
            _ = device.Driver.EventDestroy(start);
            device.Check(second, "cuEventCreate");
        }
    }

    /// <summary>Queues the first mark.</summary>
    public void Start() => Record(start);

    /// <summary>Queues the second mark.</summary>
    public void Stop() => Record(stop);

    /// <summary>Waits for the second mark and returns the time between the two.</summary>
    public TimeSpan WaitForElapsed()
    {
        device.UseOnThisThread();
        device.Check(device.Driver.EventSynchronize(stop), "cuEventSynchronize");
        device.Check(device.Driver.EventElapsedTime(out float milliseconds, start, stop), "cuEventElapsedTime");
        return TimeSpan.FromMilliseconds(milliseconds);
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        if (!isDisposed)
        {
            isDisposed = true;
            device.UseOnThisThread();
            CudaResult first = device.Driver.EventDestroy(start);
            CudaResult second = device.Driver.EventDestroy(stop);
            device.Check(first, "cuEventDestroy");
            device.Check(second, "cuEventDestroy");
        }
    }

    private void Record(nint mark)
    {
        device.UseOnThisThread();
        device.Check(device.Driver.EventRecord(mark, device.Stream), "cuEventRecord");
    }
}
