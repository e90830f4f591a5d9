using ExactFlow.Cuda;
using ExactFlow.Operators;
using ExactFlow.Tensors;
using ExactFlow.Tensors.Autograd;
using ExactFlow.Tensors.Memory;

namespace ExactFlow.Training.Experiments.SequentialMnist;

/// <summary>
/// Training steps on batches of one size. On a GPU nothing waits for it: images lie there, a step is told the numbers of its images and their labels, its loss
/// goes to the device's list of losses, and from the third step on it is a replayed graph, whose memory is reserved in the pool.
/// </summary>
internal sealed class SequentialMnistTraining : IDisposable
{
    /// <summary>Steps before the capture: the first takes memory and compiles, the second runs in the memory that was packed after it.</summary>
    private const int EagerSteps = 2;

    private readonly Device device;
    private readonly SequentialMnistModel model;
    private readonly AdamW optimizer;
    private readonly Tensor images;
    private readonly double clip;
    private readonly PoolReservation? reservation;
    private readonly List<Tensor> kept = [];
    private readonly Tensor chosen;
    private readonly Tensor labels;
    private readonly Tensor lastRows;
    private readonly Tensor lastPositions;
    private readonly Tensor identity;
    private readonly Tensor loss;
    private readonly Tensor one;
    private CudaGraph? graph;
    private int steps;

    /// <summary>Prepares steps.</summary>
    /// <param name="model">What learns.</param>
    /// <param name="optimizer">Updates it.</param>
    /// <param name="images">Float32 <c>[images, 784]</c>, on the model's device.</param>
    /// <param name="batch">Images per step.</param>
    /// <param name="clip">Largest gradient norm.</param>
    public SequentialMnistTraining(SequentialMnistModel model, AdamW optimizer, Tensor images, int batch, double clip)
    {
        (this.model, this.optimizer, this.images, this.clip) = (model, optimizer, images, clip);
        device = images.Device;
        reservation = device is CudaDevice ? device.Pool.Reserve() : null;
        try
        {
            chosen = Keep(device.Persistent([batch], DType.Int32));
            labels = Keep(device.Persistent([batch], DType.Int32));
            (lastRows, lastPositions) = ImagesOnDevice.LastPixels(device, batch);
            Keep(lastRows);
            Keep(lastPositions);
            loss = Keep(device.Persistent([1]));
            one = Keep(device.Persistent([]));
            one.CopyFrom<float>([1f]);

            // The loss operator multiplies by the head's weight itself, but has no bias: it gets finished scores and the identity.
            identity = Keep(device.Persistent([MnistSet.Classes, MnistSet.Classes]));
            identity.CopyFrom<float>([.. Enumerable.Range(0, MnistSet.Classes * MnistSet.Classes).Select(i => i % (MnistSet.Classes + 1) == 0 ? 1f : 0f)]);
        }
        catch
        {
            Dispose();
            throw;
        }
    }

    /// <summary>Queues a step; on the CPU does it.</summary>
    /// <param name="numbers">Which images.</param>
    /// <param name="digits">Their labels.</param>
    /// <param name="learningRate">Step size.</param>
    /// <param name="lossTo">One float32 on the device, for the step's loss.</param>
    public void Queue(ReadOnlySpan<int> numbers, ReadOnlySpan<int> digits, float learningRate, Tensor lossTo)
    {
        chosen.CopyFrom(numbers);
        labels.CopyFrom(digits);
        optimizer.BeginStep(learningRate);
        if (reservation is null)
        {
            Work();
        }
        else
        {
            using PoolReservation.Opening opening = reservation.Open();
            if (steps < EagerSteps)
            {
                Work();
            }
            else
            {
                graph ??= ((CudaDevice)device).Capture(Work);
                graph.Launch();
            }
        }

        lossTo.CopyFrom(loss);
        optimizer.EndStep();
        if (++steps == 1)
        {
            reservation?.Pack();
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        graph?.Dispose();
        foreach (Tensor tensor in kept)
        {
            tensor.Dispose();
        }

        reservation?.Dispose();
    }

    private void Work()
    {
        optimizer.ClearGradients();
        using (Step step = device.BeginStep())
        {
            step.ReleasesBehindBackward = true;
            Tensor logits = model.Logits(Embedding.Apply(chosen, images), lastRows, lastPositions);
            Tensor computed = CrossEntropy.Apply(logits, identity, labels);
            loss.CopyFrom(computed);
            computed.Backward(one);
        }

        optimizer.QueueClipAndStep(clip);
    }

    private Tensor Keep(Tensor tensor)
    {
        kept.Add(tensor);
        return tensor;
    }
}
