using ExactFlow.Cuda;
using ExactFlow.Operators;
using ExactFlow.Tensors;
using ExactFlow.Tensors.Autograd;
using ExactFlow.Tensors.Memory;

namespace ExactFlow.Training;

/// <summary>
/// A whole optimizer step on a GPU, queued without waiting for it: all batches forward and backward, gradient norm, clipping and AdamW. The first steps run
/// operator by operator, which compiles kernels and takes memory; then the step is captured as a graph and replayed. Token ids, learning rate and results go
/// through tensors that stay where they are, and so does the memory in between, which is reserved in the pool. The bits are those of a step that is not captured.
/// </summary>
internal sealed class GraphedStep : IDisposable
{
    /// <summary>Steps before the capture: the first takes memory and compiles, the second shows that nothing more is needed.</summary>
    private const int EagerSteps = 2;

    private readonly CudaDevice device;
    private readonly Func<Tensor, Tensor, Tensor> loss;
    private readonly AdamW optimizer;
    private readonly GraphedStepOptions options;
    private readonly PoolReservation reservation;
    private readonly int[] hostInputs;
    private readonly int[] hostTargets;
    private readonly Tensor inputs;
    private readonly Tensor targets;
    private readonly Tensor losses;
    private readonly Tensor one;
    private readonly float[] hostLosses;
    private CudaGraph? graph;
    private int eagerSteps;

    /// <summary>Prepares steps.</summary>
    /// <param name="device">The GPU.</param>
    /// <param name="loss">Inputs and targets, Int32 [batch, time], to the recorded loss.</param>
    /// <param name="optimizer">Updates the parameters.</param>
    /// <param name="options">Sizes, and how the step runs.</param>
    public GraphedStep(CudaDevice device, Func<Tensor, Tensor, Tensor> loss, AdamW optimizer, GraphedStepOptions options)
    {
        this.device = device;
        this.loss = loss;
        this.optimizer = optimizer;
        this.options = options;
        int rows = options.Batch * options.Accumulation;
        hostInputs = new int[(long)rows * options.Time];
        hostTargets = new int[hostInputs.Length];
        hostLosses = new float[options.Accumulation];
        reservation = device.Pool.Reserve();
        try
        {
            inputs = device.Persistent([rows, options.Time], DType.Int32);
            targets = device.Persistent([rows, options.Time], DType.Int32);
            losses = device.Persistent([options.Accumulation]);
            one = device.Persistent([]);
            one.CopyFrom<float>([1f]);
        }
        catch
        {
            Dispose();
            throw;
        }
    }

    /// <summary>Does one step on the windows of a text from a position on.</summary>
    /// <returns>The mean loss of its batches, and what the optimizer did: nothing when the gradient, and with it the loss, is not finite.</returns>
    public (double Loss, AdamWResult Update) Run(TokenStream data, long position, float learningRate)
    {
        data.Read(position, hostInputs, hostTargets);
        inputs.CopyFrom<int>(hostInputs);
        targets.CopyFrom<int>(hostTargets);
        optimizer.BeginStep(learningRate);
        if (graph is null)
        {
            QueueOrCapture();
        }

        graph?.Launch();
        losses.CopyTo<float>(hostLosses);
        AdamWResult update = optimizer.FinishStep();
        double sum = 0;
        foreach (float ofBatch in hostLosses)
        {
            sum += ofBatch;
        }

        return (sum / options.Accumulation, update);
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        graph?.Dispose();
        inputs?.Dispose();
        targets?.Dispose();
        losses?.Dispose();
        one?.Dispose();
        reservation.Dispose();
    }

    private void QueueOrCapture()
    {
        using PoolReservation.Opening opening = reservation.Open();
        if (options.UseGraph && eagerSteps >= EagerSteps)
        {
            graph = device.Capture(Queue);
            return;
        }

        Queue();
        eagerSteps++;
    }

    private void Queue()
    {
        optimizer.ClearGradients();
        for (int batch = 0; batch < options.Accumulation; batch++)
        {
            using Step step = device.BeginStep();
            step.ReleasesBehindBackward = true;
            Tensor value = loss(inputs.Slice(batch * options.Batch, options.Batch), targets.Slice(batch * options.Batch, options.Batch));
            losses.Slice(batch, 1).CopyFrom(value);
            value.Backward(one);
        }

        optimizer.QueueClipAndStep(options.Clip, 1f / options.Accumulation);
    }
}

/// <summary>Sizes of a step, and how it runs.</summary>
/// <param name="Batch">Sequences per batch.</param>
/// <param name="Time">Tokens per sequence.</param>
/// <param name="Accumulation">Batches per step.</param>
/// <param name="Clip">Largest gradient norm, or 0.</param>
/// <param name="UseGraph">Whether the step is captured once it is warm.</param>
internal sealed record GraphedStepOptions(int Batch, int Time, int Accumulation, double Clip, bool UseGraph);
