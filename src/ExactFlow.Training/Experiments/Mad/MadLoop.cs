using ExactFlow.Cuda;
using ExactFlow.Models.Mad;
using ExactFlow.Operators;
using ExactFlow.Tensors;
using ExactFlow.Tensors.Autograd;

namespace ExactFlow.Training.Experiments.Mad;

/// <summary>Trains a model epoch by epoch and tests it after each. Epochs are queued, and what came of them is read later: on a GPU while the next one runs.</summary>
internal abstract class MadLoop : IDisposable
{
    /// <summary>Epochs queued and not read.</summary>
    public abstract int Pending { get; }

    /// <summary>Epochs that are queued before the first is read, so that the device need not wait.</summary>
    public virtual int Ahead => 1;

    /// <summary>A loop for a device.</summary>
    /// <param name="model">What is trained.</param>
    /// <param name="training">How.</param>
    /// <param name="train">The training examples.</param>
    /// <param name="test">The test examples.</param>
    /// <param name="device">Where.</param>
    public static MadLoop On(Device device, MadModel model, MadTraining training, MadExamples train, MadExamples test)
        => device is CudaDevice gpu ? new MadGraphedLoop(gpu, model, training, train, test) : new MadEagerLoop(device, model, training, train, test);

    /// <summary>Trains for one epoch and tests.</summary>
    public abstract void Queue(int epoch);

    /// <summary>What the oldest epoch gave that was not read.</summary>
    public abstract MadEpoch Read();

    /// <inheritdoc/>
    public void Dispose()
    {
        Dispose(true);
        GC.SuppressFinalize(this);
    }

    /// <summary>Which examples each batch of all epochs is made of: [epochs x steps, batch]. Each epoch is a permutation of its own.</summary>
    internal static int[] Order(MadTraining training, int examples)
    {
        int used = examples / training.Batch * training.Batch;
        var order = new int[(long)training.Epochs * used];
        Parallel.For(0, training.Epochs, epoch =>
        {
            int[] permutation = [.. Enumerable.Range(0, examples)];
            new MadRandom("order", MadSplit.Train, training.Seed, epoch).Shuffle(permutation);
            permutation.AsSpan(0, used).CopyTo(order.AsSpan((int)((long)epoch * used), used));
        });
        return order;
    }

    /// <summary>The optimizer of a training: AdamW with the usual constants.</summary>
    protected static AdamW Optimizer(MadModel model, MadTraining training)
        => new(model.Parameters, new AdamWOptions { Beta1 = 0.9, Beta2 = 0.999, Epsilon = 1e-8, WeightDecay = training.WeightDecay });

    /// <summary>Adds the hits of a model on examples that lie on its device, some rows at a time.</summary>
    protected static void CountHits(Device device, MadModel model, Tensor inputs, Tensor targets, int rows, Tensor hits)
    {
        for (int first = 0; first < inputs.Shape[0]; first += rows)
        {
            int count = Math.Min(rows, inputs.Shape[0] - first);
            using Step step = device.BeginStep(recordGradients: false);
            using Tensor someInputs = inputs.Slice(first, count), someTargets = targets.Slice(first, count);
            model.CountHits(someInputs, someTargets, hits);
        }
    }

    /// <summary>Releases what the loop holds; model and device stay.</summary>
    protected abstract void Dispose(bool disposing);
}
