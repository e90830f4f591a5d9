using System.Runtime.InteropServices;
using ExactFlow.Cuda;
using ExactFlow.Models.Mad;
using ExactFlow.Operators;
using ExactFlow.Tensors;
using ExactFlow.Tensors.Autograd;
using ExactFlow.Tensors.Memory;

namespace ExactFlow.Training.Experiments.Mad;

/// <summary>
/// The loop on a GPU. Examples, the order of all batches and the optimizer's factors of all steps lie on the device, and a counter there says which step is
/// next, so that a graph of several steps is all that the host launches, and one for the test; it waits for an epoch's few numbers while the next one runs.
/// </summary>
internal sealed class MadGraphedLoop : MadLoop
{
    /// <summary>Steps in the graph that is launched most: enough that the host and the gaps between graphs do not count.</summary>
    private const int StepsPerGraph = 10;

    /// <summary>Numbers of an epoch before the hits: the sum of losses and the steps applied.</summary>
    private const int Heads = 2;

    private readonly CudaDevice device;
    private readonly MadModel model;
    private readonly MadTraining training;
    private readonly int steps;
    private readonly List<IDisposable> owned = [];
    private readonly AdamW optimizer;
    private readonly CudaBatches batches;
    private readonly CudaReadback readback;
    private readonly RepeatedGraph test;
    private readonly RepeatedGraph oneStep;
    private readonly RepeatedGraph manySteps;
    private readonly Tensor schedule;
    private readonly Tensor position;
    private readonly Tensor record;
    private readonly Tensor hits;

    public MadGraphedLoop(CudaDevice device, MadModel model, MadTraining training, MadExamples train, MadExamples test)
    {
        (this.device, this.model, this.training) = (device, model, training);
        steps = train.Count / training.Batch;
        try
        {
            optimizer = Own(Optimizer(model, training));
            batches = Own(new CudaBatches(device, train.Inputs, train.Targets, train.Length, Order(training, train.Count), training.Batch));
            var rates = new float[training.Epochs * steps];
            for (int i = 0; i < rates.Length; i++)
            {
                rates[i] = (float)training.RateOf(i / steps);
            }

            schedule = Own(optimizer.Schedule(rates));
            position = Own(device.Persistent([1], DType.Int32));
            record = Own(device.Persistent([Heads + model.Config.Vocabulary], DType.Int32));
            hits = Own(record.Slice(Heads, model.Config.Vocabulary));
            Tensor testInputs = Own(device.Persistent([test.Count, test.Length], DType.Int32)), testTargets = Own(device.Persistent([test.Count, test.Length], DType.Int32));
            testInputs.CopyFrom<int>(test.Inputs);
            testTargets.CopyFrom<int>(test.Targets);
            readback = Own(new CudaReadback(device, checked((int)record.ByteCount), sleeps: true));

            // Graphs end before the memory that they use.
            PoolReservation stepMemory = Own(device.Pool.Reserve()), testMemory = Own(device.Pool.Reserve());
            this.test = Own(new RepeatedGraph(device, testMemory, () => CountHits(device, model, testInputs, testTargets, training.Batch, hits)));
            oneStep = Own(new RepeatedGraph(device, stepMemory, QueueStep));
            manySteps = Own(new RepeatedGraph(device, stepMemory, QueueSteps, oneStep));
        }
        catch
        {
            Dispose();
            throw;
        }
    }

    /// <inheritdoc/>
    public override int Pending => readback.Pending;

    /// <inheritdoc/>
    public override void Queue(int epoch)
    {
        record.Zero();
        for (int done = 0; done < steps;)
        {
            bool isMany = oneStep.IsWarm && steps - done >= StepsPerGraph;
            (isMany ? manySteps : oneStep).Queue();
            done += isMany ? StepsPerGraph : 1;
        }

        test.Queue();
        readback.Queue(record.Address);
    }

    /// <inheritdoc/>
    public override MadEpoch Read()
    {
        ReadOnlySpan<byte> bytes = readback.Read();
        ReadOnlySpan<int> numbers = MemoryMarshal.Cast<byte, int>(bytes);
        return new MadEpoch(BitConverter.Int32BitsToSingle(numbers[0]) / steps, numbers[1], numbers[Heads..].ToArray());
    }

    /// <inheritdoc/>
    protected override void Dispose(bool disposing)
    {
        for (int i = owned.Count - 1; i >= 0; i--)
        {
            owned[i].Dispose();
        }

        owned.Clear();
    }

    private T Own<T>(T value)
        where T : IDisposable
    {
        owned.Add(value);
        return value;
    }

    private void QueueSteps()
    {
        for (int i = 0; i < StepsPerGraph; i++)
        {
            QueueStep();
        }
    }

    private void QueueStep()
    {
        batches.QueueNext(position);
        optimizer.ClearGradients();
        Tensor loss;
        using (Step step = device.BeginStep())
        {
            step.ReleasesBehindBackward = true;
            loss = step.Keep(model.Loss(batches.Inputs, batches.Targets));

            // Nothing is copied, not even the 1 that it begins with: the driver launches a long graph of nothing but kernels at once, and one with copies in between piece by piece.
            loss.Backward();
        }

        optimizer.QueueScheduledStep(schedule, position, loss, record, maximumNorm: 0);
        loss.Dispose();
    }

    /// <summary>
    /// Work that runs operator by operator twice, which compiles kernels, takes memory and packs it, and from then on as a graph. A second graph on the same
    /// memory begins at once when the first is warm.
    /// </summary>
    private sealed class RepeatedGraph(CudaDevice device, PoolReservation memory, Action work, RepeatedGraph? warmedBy = null) : IDisposable
    {
        private const int EagerRuns = 2;

        private CudaGraph? graph;
        private int runs;

        public bool IsWarm => runs >= EagerRuns || warmedBy is { IsWarm: true };

        public void Queue()
        {
            using (PoolReservation.Opening opening = memory.Open())
            {
                if (IsWarm)
                {
                    graph ??= device.Capture(work);
                    graph.Launch();
                }
                else
                {
                    work();
                }
            }

            if (!IsWarm && ++runs == 1)
            {
                memory.Pack();
            }
        }

        public void Dispose() => graph?.Dispose();
    }
}
