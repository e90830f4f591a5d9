using ExactFlow.Models.Mad;
using ExactFlow.Operators;
using ExactFlow.Tensors;
using ExactFlow.Tensors.Autograd;

namespace ExactFlow.Training.Experiments.Mad;

/// <summary>The loop on a CPU: operator by operator.</summary>
internal sealed class MadEagerLoop : MadLoop
{
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
    private readonly Tensor testInputs;
    private readonly Tensor testTargets;
    private readonly Tensor hits;

    public MadEagerLoop(Device device, MadModel model, MadTraining training, MadExamples train, MadExamples test)
    {
        (this.device, this.model, this.training, this.train) = (device, model, training, train);
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
        int length = train.Length;
        for (int row = 0; row < training.Batch; row++)
        {
            int from = order[(position * training.Batch) + row] * length;
            train.Inputs.AsSpan(from, length).CopyTo(inputs.AsSpan(row * length));
            train.Targets.AsSpan(from, length).CopyTo(targets.AsSpan(row * length));
        }

        double loss;
        using (Step step = device.BeginStep())
        {
            step.ReleasesBehindBackward = true;
            Shape shape = [training.Batch, length];
            Tensor mean = model.Loss(device.From<int>(inputs, shape), device.From<int>(targets, shape));
            loss = mean.Item();
            mean.Backward();
        }

        AdamWResult result = optimizer.ClipAndStep(rate, 0);
        optimizer.ClearGradients();
        return (loss, result.Applied);
    }
}
