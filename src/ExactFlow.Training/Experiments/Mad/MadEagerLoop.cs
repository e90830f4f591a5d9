using ExactFlow.Models.Mad;
using ExactFlow.Operators;
using ExactFlow.Tensors;
using ExactFlow.Tensors.Autograd;

namespace ExactFlow.Training.Experiments.Mad;

/// <summary>The loop on a CPU: operator by operator, and a batch in parts whose gradients are added.</summary>
internal sealed class MadEagerLoop : MadLoop
{
    /// <summary>Tokens of a part of a batch. Its activations stay in the last cache, where those of a whole batch go through memory at every operator.</summary>
    private const int PartTokens = 4096;

    private readonly Device device;
    private readonly MadModel model;
    private readonly MadTraining training;
    private readonly MadExamples train;
    private readonly AdamW optimizer;
    private readonly Queue<MadEpoch> done = new();
    private readonly int[] order;
    private readonly int[] inputs;
    private readonly int[] targets;
    private readonly int steps;
    private readonly int partTokens;
    private readonly Tensor testInputs;
    private readonly Tensor testTargets;
    private readonly Tensor hits;

    public MadEagerLoop(Device device, MadModel model, MadTraining training, MadExamples train, MadExamples test, int partTokens = PartTokens)
    {
        (this.device, this.model, this.training, this.train, this.partTokens) = (device, model, training, train, partTokens);
        steps = train.Count / training.Batch;
        order = Order(training, train.Count);
        inputs = new int[training.Batch * train.Length];
        targets = new int[inputs.Length];
        optimizer = Optimizer(model, training);
        testInputs = device.Persistent([test.Count, test.Length], DType.Int32);
        testTargets = device.Persistent([test.Count, test.Length], DType.Int32);
        hits = device.Persistent([model.Config.Vocabulary], DType.Int32);
        testInputs.CopyFrom<int>(test.Inputs);
        testTargets.CopyFrom<int>(test.Targets);
    }

    /// <inheritdoc/>
    public override int Pending => done.Count;

    /// <summary>An epoch is done when it is queued.</summary>
    public override int Ahead => 0;

    /// <inheritdoc/>
    public override void Queue(int epoch)
    {
        double sum = 0;
        int applied = 0;
        for (int i = 0; i < steps; i++)
        {
            (double loss, bool isApplied) = Step((epoch * steps) + i, (float)training.RateOf(epoch));
            sum += loss;
            applied += isApplied ? 1 : 0;
        }

        hits.Zero();
        CountHits(device, model, testInputs, testTargets, training.Batch, hits);
        done.Enqueue(new MadEpoch(sum / steps, applied, hits.ToHost<int>()));
    }

    /// <inheritdoc/>
    public override MadEpoch Read() => done.Dequeue();

    /// <inheritdoc/>
    protected override void Dispose(bool disposing)
    {
        foreach (IDisposable owned in (ReadOnlySpan<IDisposable>)[optimizer, testInputs, testTargets, hits])
        {
            owned.Dispose();
        }
    }

    private (double Loss, bool Applied) Step(int position, float rate)
    {
        int length = train.Length, rows = Math.Clamp(partTokens / length, 1, training.Batch);
        for (int row = 0; row < training.Batch; row++)
        {
            int from = order[(position * training.Batch) + row] * length;
            train.Inputs.AsSpan(from, length).CopyTo(inputs.AsSpan(row * length));
            train.Targets.AsSpan(from, length).CopyTo(targets.AsSpan(row * length));
        }

        double loss = 0;
        int asked = Asked(targets);
        for (int first = 0; first < training.Batch; first += rows)
        {
            loss += AddGradients(first * length, [Math.Min(rows, training.Batch - first), length], asked);
        }

        AdamWResult result = optimizer.ClipAndStep(rate, 0);
        optimizer.ClearGradients();
        return (loss, result.Applied);
    }

    /// <summary>Adds the gradients of a part of the batch; returns its part of the batch's mean loss.</summary>
    private double AddGradients(int start, Shape shape, int askedOfBatch)
    {
        ReadOnlySpan<int> partTargets = targets.AsSpan(start, (int)shape.Count);
        float share = (float)Asked(partTargets) / askedOfBatch;
        using Step step = device.BeginStep();
        step.ReleasesBehindBackward = true;
        Tensor mean = model.Loss(device.From<int>(inputs.AsSpan(start, partTargets.Length), shape), device.From<int>(partTargets, shape));
        double loss = share * mean.Item();
        mean.Backward(device.From<float>([share], []));
        return loss;
    }

    private static int Asked(ReadOnlySpan<int> targets) => targets.Length - targets.Count(MadTask.Ignored);
}
