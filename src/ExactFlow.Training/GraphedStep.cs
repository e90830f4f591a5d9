using ExactFlow.Cuda;
using ExactFlow.Operators;
using ExactFlow.Tensors;
using ExactFlow.Tensors.Autograd;
using ExactFlow.Tensors.Memory;

namespace ExactFlow.Training;

/// <summary>
/// A whole optimizer step on a GPU, queued without waiting for it: all batches forward and backward, gradient norm, clipping and AdamW. The first steps run
/// operator by operator, which compiles kernels and takes memory; then the step is captured as graphs and replayed: one for the batch that begins a step,
/// one for each that adds to its gradients, one for the optimizer. Token ids, learning rate and results go through tensors that stay where they are, and so
/// does the memory in between, which is reserved in the pool. The bits are those of a step that is not captured.
/// </summary>
internal sealed class GraphedStep : IDisposable
{
    /// <summary>Steps before the capture: the first takes memory and compiles, the second runs in the memory that was packed after it.</summary>
    private const int EagerSteps = 2;

    private readonly CudaDevice device;
    private readonly Func<Tensor, Tensor, SequenceOffsets?, Tensor> computeLoss;
    private readonly AdamW optimizer;
    private readonly GraphedStepOptions options;
    private readonly PoolReservation reservation;
    private readonly RepeatedWork firstBatch;
    private readonly RepeatedWork nextBatch;
    private readonly RepeatedWork update;
    private readonly int[] hostInputs;
    private readonly int[] hostTargets;
    private readonly float[] hostLosses;
    private readonly Tensor allInputs;
    private readonly Tensor allTargets;
    private readonly Tensor inputs;
    private readonly Tensor targets;
    private readonly Tensor loss;
    private readonly Tensor losses;
    private readonly Tensor one;
    private int steps;
    private SequenceOffsets? documents;

    /// <summary>Prepares steps.</summary>
    /// <param name="device">The GPU.</param>
    /// <param name="loss">Inputs and targets, Int32 [batch, time], to the recorded loss; with where documents begin, [1, batch x time].</param>
    /// <param name="optimizer">Updates the parameters.</param>
    /// <param name="options">Sizes, and how the step runs.</param>
    public GraphedStep(CudaDevice device, Func<Tensor, Tensor, SequenceOffsets?, Tensor> loss, AdamW optimizer, GraphedStepOptions options)
    {
        this.device = device;
        computeLoss = loss;
        this.optimizer = optimizer;
        this.options = options;
        int rows = options.Batch * options.Accumulation;
        hostInputs = new int[(long)rows * options.Time];
        hostTargets = new int[hostInputs.Length];
        hostLosses = new float[options.Accumulation];
        firstBatch = new RepeatedWork(device, () => QueueBatch(isFirst: true));
        nextBatch = new RepeatedWork(device, () => QueueBatch(isFirst: false));
        update = new RepeatedWork(device, () => optimizer.QueueClipAndStep(options.Clip, 1f / options.Accumulation));
        reservation = device.Pool.Reserve();
        try
        {
            allInputs = device.Persistent([rows, options.Time], DType.Int32);
            allTargets = device.Persistent([rows, options.Time], DType.Int32);
            inputs = device.Persistent([options.Batch, options.Time], DType.Int32);
            targets = device.Persistent([options.Batch, options.Time], DType.Int32);
            losses = device.Persistent([options.Accumulation]);
            this.loss = device.Persistent([1]);
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
        allInputs.CopyFrom<int>(hostInputs);
        allTargets.CopyFrom<int>(hostTargets);
        optimizer.BeginStep(learningRate);
        if (options.UseGraph)
        {
            using PoolReservation.Opening opening = reservation.Open();
            QueueStep(data, position, useGraph: steps >= EagerSteps);
        }
        else
        {
            QueueStep(data, position, useGraph: false);
        }

        losses.CopyTo<float>(hostLosses);
        AdamWResult result = optimizer.FinishStep();
        if (++steps == 1 && options.UseGraph)
        {
            reservation.Pack();
        }

        double sum = 0;
        foreach (float ofBatch in hostLosses)
        {
            sum += ofBatch;
        }

        return (sum / options.Accumulation, result);
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        foreach (RepeatedWork work in (RepeatedWork[])[firstBatch, nextBatch, update])
        {
            work.Dispose();
        }

        foreach (Tensor? tensor in (Tensor?[])[allInputs, allTargets, inputs, targets, loss, losses, one])
        {
            tensor?.Dispose();
        }

        reservation.Dispose();
    }

    private void QueueStep(TokenStream data, long position, bool useGraph)
    {
        for (int batch = 0; batch < options.Accumulation; batch++)
        {
            using Tensor batchInputs = allInputs.Slice(batch * options.Batch, options.Batch), batchTargets = allTargets.Slice(batch * options.Batch, options.Batch);
            using Tensor batchLoss = losses.Slice(batch, 1);
            inputs.CopyFrom(batchInputs);
            targets.CopyFrom(batchTargets);
            documents = data.Documents(position + ((long)batch * options.Batch), options.Batch);
            (batch == 0 ? firstBatch : nextBatch).Queue(useGraph);
            batchLoss.CopyFrom(loss);
        }

        update.Queue(useGraph);
    }

    private void QueueBatch(bool isFirst)
    {
        if (isFirst)
        {
            optimizer.ClearGradients();
        }

        using Step step = device.BeginStep();
        step.ReleasesBehindBackward = true;
        Shape row = [1, options.Batch * options.Time];
        Tensor computed = documents is null ? computeLoss(inputs, targets, null) : computeLoss(inputs.Reshape(row), targets.Reshape(row), documents);
        loss.CopyFrom(computed);
        computed.Backward(one);
    }

    /// <summary>Work that is queued operator by operator, or captured once and replayed.</summary>
    private sealed class RepeatedWork(CudaDevice device, Action work) : IDisposable
    {
        private CudaGraph? graph;

        public void Queue(bool useGraph)
        {
            if (useGraph)
            {
                graph ??= device.Capture(work);
                graph.Launch();
            }
            else
            {
                work();
            }
        }

        public void Dispose() => graph?.Dispose();
    }
}

/// <summary>Sizes of a step, and how it runs.</summary>
/// <param name="Batch">Sequences per batch.</param>
/// <param name="Time">Tokens per sequence.</param>
/// <param name="Accumulation">Batches per step.</param>
/// <param name="Clip">Largest gradient norm, or 0.</param>
/// <param name="UseGraph">Whether the step is captured once it is warm; not where documents are kept apart, which begin elsewhere in every batch.</param>
internal sealed record GraphedStepOptions(int Batch, int Time, int Accumulation, double Clip, bool UseGraph);
