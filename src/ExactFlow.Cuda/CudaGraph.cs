namespace ExactFlow.Cuda;

/// <summary>Work captured once by <see cref="CudaDevice.Capture"/> and replayed with a single call, whatever it consists of.</summary>
public sealed class CudaGraph : IDisposable
{
    private readonly CudaDevice device;
    private nint executable;

    /// <summary>Takes over a captured graph and makes it executable.</summary>
    internal CudaGraph(CudaDevice device, nint graph)
    {
        this.device = device;
        CudaResult made = device.Driver.GraphInstantiate(out executable, graph);
        CudaResult freed = device.Driver.GraphDestroy(graph);
        device.Check(made, "cuGraphInstantiateWithFlags");
        if (freed != CudaResult.Success)
        {
            _ = device.Driver.GraphExecutableDestroy(executable);
            executable = 0;
            device.Check(freed, "cuGraphDestroy");
        }
    }

    /// <summary>Queues the captured work once more.</summary>
    public void Launch()
    {
        ObjectDisposedException.ThrowIf(executable == 0, this);
        device.UseOnThisThread();
        device.Check(device.Driver.GraphLaunch(executable, device.Stream), "cuGraphLaunch");
    }

    /// <summary>Releases the graph; launches already queued still run.</summary>
    public void Dispose()
    {
        if (executable != 0)
        {
            nint released = executable;
            executable = 0;
            device.UseOnThisThread();
            device.Check(device.Driver.GraphExecutableDestroy(released), "cuGraphExecDestroy");
        }
    }
}
