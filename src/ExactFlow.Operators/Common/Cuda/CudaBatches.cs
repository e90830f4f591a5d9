using System.Runtime.InteropServices;
using ExactFlow.Cuda;
using ExactFlow.Tensors;

namespace ExactFlow.Operators;

/// <summary>Examples that lie on a GPU for a whole training, and the order of its batches: the next batch is put together there, so that a graph may hold many steps.</summary>
public sealed class CudaBatches : IDisposable
{
    private readonly CudaDevice device;
    private readonly Tensor inputs;
    private readonly Tensor targets;
    private readonly Tensor order;

    /// <summary>Copies examples and order to the device.</summary>
    /// <param name="device">The GPU.</param>
    /// <param name="inputs">Token ids [examples, length], row-major.</param>
    /// <param name="targets">The targets of each, of the same shape.</param>
    /// <param name="length">Tokens per example.</param>
    /// <param name="order">Which examples each batch is made of: [batches, rows].</param>
    /// <param name="rows">Examples per batch.</param>
    public CudaBatches(CudaDevice device, ReadOnlySpan<int> inputs, ReadOnlySpan<int> targets, int length, ReadOnlySpan<int> order, int rows)
    {
        ArgumentNullException.ThrowIfNull(device);
        ArgumentOutOfRangeException.ThrowIfNotEqual(targets.Length, inputs.Length);
        this.device = device;
        this.inputs = Upload(device, inputs);
        this.targets = Upload(device, targets);
        this.order = Upload(device, order);
        Inputs = device.Persistent([rows, length], DType.Int32);
        Targets = device.Persistent([rows, length], DType.Int32);
    }

    /// <summary>The batch that was put together last: Int32 [rows, length].</summary>
    public Tensor Inputs { get; }

    /// <summary>Its targets: Int32 [rows, length].</summary>
    public Tensor Targets { get; }

    /// <summary>Queues that a batch is put together.</summary>
    /// <param name="position">Int32 [1] on the device: which batch.</param>
    public void QueueNext(Tensor position)
    {
        ArgumentNullException.ThrowIfNull(position);
        var arguments = new Arguments
        {
            Inputs = inputs.Address, Targets = targets.Address, Order = order.Address, Position = position.Address,
            BatchInputs = Inputs.Address, BatchTargets = Targets.Address, Rows = Inputs.Shape[0], Length = Inputs.Shape[1],
        };
        CudaLaunch.Run(device, "batch_rows.cu", "batch_rows", CudaLaunch.Grid(device, Inputs.Count), arguments);
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        foreach (Tensor tensor in (ReadOnlySpan<Tensor>)[inputs, targets, order, Inputs, Targets])
        {
            tensor.Dispose();
        }
    }

    private static Tensor Upload(Device device, ReadOnlySpan<int> values)
    {
        Tensor tensor = device.Persistent([values.Length], DType.Int32);
        tensor.CopyFrom(values);
        return tensor;
    }

    /// <summary><c>BatchArgs</c> of batch_rows.cu.</summary>
    [StructLayout(LayoutKind.Sequential)]
    private struct Arguments
    {
        public nint Inputs, Targets, Order, Position, BatchInputs, BatchTargets;
        public int Rows, Length;
    }
}
