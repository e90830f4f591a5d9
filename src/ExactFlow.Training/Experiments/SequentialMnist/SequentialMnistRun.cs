using System.Diagnostics;
using System.Globalization;
using ExactFlow.Operators;
using ExactFlow.Tensors;
using ExactFlow.Tensors.Autograd;
using ExactFlow.Tensors.Randomness;

namespace ExactFlow.Training.Experiments.SequentialMnist;

/// <summary>One run of the study: trains a model and tests it under all disturbances.</summary>
internal sealed class SequentialMnistRun
{
    private const int TestBatch = 500, CurvePoints = 100;

    /// <summary>Share of a run's time that testing takes, for the display.</summary>
    private const double TestingShare = 0.4;

    private readonly SequentialMnistOptions options;
    private readonly SequentialMnistRule rule;
    private readonly double learningRate;
    private readonly int seed;
    private readonly MnistSet training;
    private readonly MnistSet test;
    private readonly PerturbedImages perturbed;

    /// <summary>Describes the run.</summary>
    public SequentialMnistRun(SequentialMnistOptions options, SequentialMnistRule rule, double learningRate, int seed, MnistSet training, MnistSet test, PerturbedImages perturbed)
        => (this.options, this.rule, this.learningRate, this.seed, this.training, this.test, this.perturbed) = (options, rule, learningRate, seed, training, test, perturbed);

    /// <summary>Its name in results.</summary>
    public string Name => string.Create(CultureInfo.InvariantCulture, $"{rule.Name} lr={learningRate} seed={seed}");

    private int StepsPerEpoch => (training.Count + options.BatchSize - 1) / options.BatchSize;

    /// <summary>Does it.</summary>
    /// <exception cref="OperationCanceledException">It was stopped.</exception>
    public SequentialMnistResult Execute(StudyWorker worker)
    {
        ImagesOnDevice images = worker.Shared(device => new ImagesOnDevice(device, training, perturbed));
        using var model = new SequentialMnistModel(worker.Device, rule, (ulong)seed);
        (float[] losses, double seconds) = Train(worker, model, images.Training);
        var accuracies = Test(worker, model, images);
        int stride = Math.Max(1, losses.Length / CurvePoints);
        return new SequentialMnistResult
        {
            Rule = rule.Name,
            LearningRate = learningRate,
            Seed = seed,
            Steps = losses.Length,
            TrainingSeconds = Math.Round(seconds, 3),
            FinalLoss = losses.TakeLast(SequentialMnistResult.FinalSteps).Average(loss => (double)loss),
            Accuracy = accuracies[default],
            Intensity = [.. Perturbation.IntensityLevels.Select(level => accuracies[new Perturbation(PerturbationKind.Intensity, level).Canonical])],
            Noise = [.. Perturbation.TenthLevels.Select(level => accuracies[new Perturbation(PerturbationKind.Noise, level).Canonical])],
            Dropout = [.. Perturbation.TenthLevels.Select(level => accuracies[new Perturbation(PerturbationKind.Dropout, level).Canonical])],
            LossStride = stride,
            LossCurve = [.. losses.Chunk(stride).Select(part => Math.Round(part.Average(loss => (double)loss), 4))],
        };
    }

    /// <summary>All images of an epoch once, in an order that seed and epoch decide.</summary>
    internal static int[] Order(int seed, int epoch, int count)
    {
        var random = new Philox((ulong)seed, Philox.StreamOf($"order of epoch {epoch}"));
        int[] order = [.. Enumerable.Range(0, count)];
        for (int i = count - 1; i > 0; i--)
        {
            int other = random.Below((ulong)i, i + 1);
            (order[i], order[other]) = (order[other], order[i]);
        }

        return order;
    }

    /// <summary>The losses of all steps, and the seconds from the first replayed step on, scaled to all of them.</summary>
    private (float[] Losses, double Seconds) Train(StudyWorker worker, SequentialMnistModel model, Tensor images)
    {
        const int WarmUpSteps = 3;
        Device device = worker.Device;
        int steps = options.Epochs * StepsPerEpoch, batch = Math.Min(options.BatchSize, training.Count), rest = training.Count % options.BatchSize;
        using var optimizer = new AdamW(model.Parameters, new AdamWOptions { Beta1 = 0.9, Beta2 = 0.999, Epsilon = 1e-8, WeightDecay = 0.01 });
        using var whole = new SequentialMnistTraining(model, optimizer, images, batch, options.Clip);
        using SequentialMnistTraining? last = rest > 0 && rest != batch ? new SequentialMnistTraining(model, optimizer, images, rest, options.Clip) : null;
        using Tensor losses = device.Persistent([steps]);
        var digits = new int[batch];
        long start = Stopwatch.GetTimestamp();
        int step = 0;
        for (int epoch = 0; epoch < options.Epochs; epoch++)
        {
            int[] order = Order(seed, epoch, training.Count);
            for (int first = 0; first < order.Length; first += batch, step++)
            {
                worker.Stop.ThrowIfCancellationRequested();
                if (step == Math.Min(WarmUpSteps, steps - 1))
                {
                    device.Synchronize();
                    start = Stopwatch.GetTimestamp();
                }

                ReadOnlySpan<int> numbers = order.AsSpan(first, Math.Min(batch, order.Length - first));
                for (int i = 0; i < numbers.Length; i++)
                {
                    digits[i] = training.Labels[numbers[i]];
                }

                using Tensor loss = losses.Slice(step, 1);
                (numbers.Length == batch ? whole : last!).Queue(numbers, digits.AsSpan(0, numbers.Length), (float)learningRate, loss);
                Tell(worker, step, steps, loss);
            }
        }

        device.Synchronize();
        double seconds = Stopwatch.GetElapsedTime(start).TotalSeconds * steps / Math.Max(1, steps - WarmUpSteps);
        return (losses.ToHost<float>(), seconds);
    }

    private static void Tell(StudyWorker worker, int step, int steps, Tensor loss)
    {
        const int Every = 10;
        if (step % Every == 0)
        {
            // A GPU is not waited for, so only the CPU tells the loss.
            string status = worker.Device is CpuDevice ? string.Create(CultureInfo.InvariantCulture, $"step {step + 1}/{steps}, loss {loss.Item():0.000}") : "";
            worker.Progress((1 - TestingShare) * step / steps, status);
        }
    }

    private Dictionary<Perturbation, double> Test(StudyWorker worker, SequentialMnistModel model, ImagesOnDevice images)
    {
        Perturbation[] all =
        [
            .. Perturbation.IntensityLevels.Select(level => new Perturbation(PerturbationKind.Intensity, level).Canonical)
                .Concat(Perturbation.TenthLevels.Select(level => new Perturbation(PerturbationKind.Noise, level).Canonical))
                .Concat(Perturbation.TenthLevels.Select(level => new Perturbation(PerturbationKind.Dropout, level).Canonical))
                .Distinct(),
        ];
        var accuracies = new Dictionary<Perturbation, double>();
        foreach (Perturbation perturbation in all)
        {
            worker.Stop.ThrowIfCancellationRequested();
            accuracies[perturbation] = Accuracy(worker.Device, model, images.Test(perturbation));
            worker.Progress(1 - (TestingShare * (all.Length - accuracies.Count) / all.Length), "testing");
        }

        return accuracies;
    }

    private static int Largest(ReadOnlySpan<float> row)
    {
        int largest = 0;
        for (int i = 1; i < row.Length; i++)
        {
            largest = row[i] > row[largest] ? i : largest;
        }

        return largest;
    }

    private double Accuracy(Device device, SequentialMnistModel model, Tensor images)
    {
        using Tensor scores = device.Persistent([test.Count, MnistSet.Classes]);
        for (int first = 0; first < test.Count; first += TestBatch)
        {
            int batch = Math.Min(TestBatch, test.Count - first);
            (Tensor rows, Tensor positions) = ImagesOnDevice.LastPixels(device, batch);
            using (rows)
            using (positions)
            using (Step step = device.BeginStep(recordGradients: false))
            using (Tensor part = images.Slice(first, batch), to = scores.Slice(first, batch))
            {
                to.CopyFrom(model.Logits(part, rows, positions));
            }
        }

        float[] all = scores.ToHost<float>();
        int right = 0;
        for (int i = 0; i < test.Count; i++)
        {
            ReadOnlySpan<float> row = all.AsSpan(i * MnistSet.Classes, MnistSet.Classes);
            right += !float.IsNaN(row[0]) && Largest(row) == test.Labels[i] ? 1 : 0;
        }

        return (double)right / test.Count;
    }
}
