using ExactFlow.Models;
using ExactFlow.Models.Mad;
using ExactFlow.Tensors;
using ExactFlow.Tensors.Autograd;

namespace ExactFlow.Training.Experiments.Mad;

/// <summary>Trains one model on one task and tests it after every epoch.</summary>
public static class MadTrainer
{
    /// <summary>The fewest sequences that a length is tested with.</summary>
    private const int FewestLong = 64;

    /// <summary>Does the whole training.</summary>
    /// <param name="device">Where; a device of its own, which other trainings may share a GPU with.</param>
    /// <param name="kind">The task.</param>
    /// <param name="settings">Its difficulty.</param>
    /// <param name="training">How.</param>
    /// <param name="train">The training examples, of the training's seed.</param>
    /// <param name="test">The test examples.</param>
    /// <param name="progress">Is told the share that is done, the loss and the accuracy.</param>
    /// <param name="stop">Gives the training up after the epoch that runs.</param>
    /// <exception cref="OperationCanceledException">It was given up.</exception>
    /// <exception cref="InvalidInputException">The settings cannot be.</exception>
    public static MadOutcome Run(
        Device device, MadTaskKind kind, MadSettings settings, MadTraining training, MadExamples train, MadExamples test, Action<double, string> progress, CancellationToken stop)
    {
        ArgumentNullException.ThrowIfNull(device);
        ArgumentNullException.ThrowIfNull(kind);
        ArgumentNullException.ThrowIfNull(training);
        MadTask task = kind.Create(settings);
        RequireBatch(task, training);
        DType precision = ModelPrecision.On(device, training.Precision);
        try
        {
            using var model = new MadModel(device, training.Model, training.Seed, task.IsCompression ? task.InputLength : 0, precision);
            MadOutcome outcome = Train(device, model, training, train, test, progress, stop);
            return outcome with { Score = Score(device, model, test, training.Batch), Extrapolation = [.. training.Extrapolation.Select(length => Test(device, model, kind, settings with { Length = length }, training))] };
        }
        finally
        {
            // The next training needs blocks of other sizes.
            device.Pool.Trim();
        }
    }

    /// <summary>Refuses batches larger than the data.</summary>
    /// <exception cref="InvalidInputException">There are fewer training examples than a step takes.</exception>
    public static void RequireBatch(MadTask task, MadTraining training)
    {
        ArgumentNullException.ThrowIfNull(task);
        ArgumentNullException.ThrowIfNull(training);
        if (task.Settings.TrainExamples < training.Batch)
        {
            throw new InvalidInputException($"Training on {task.Name} takes steps of {training.Batch} examples, but there are {task.Settings.TrainExamples}: training examples >= batch must hold; ask for more examples or a smaller batch.");
        }
    }

    private static MadOutcome Train(Device device, MadModel model, MadTraining training, MadExamples train, MadExamples test, Action<double, string> progress, CancellationToken stop)
    {
        var accuracy = new MadAccuracy(test.Targets, model.Config.Vocabulary);
        List<double> losses = [], accuracies = [];
        int skipped = 0, steps = train.Count / training.Batch;
        bool isEnough = false;
        using (var loop = MadLoop.On(device, model, training, train, test))
        {
            // On a GPU an epoch is read while the next one runs: a solved task trains for one epoch too many, which is not counted.
            for (int epoch = 0; epoch < training.Epochs && !isEnough; epoch++)
            {
                stop.ThrowIfCancellationRequested();
                loop.Queue(epoch);
                if (loop.Pending > loop.Ahead)
                {
                    Note(loop.Read());
                }
            }

            while (loop.Pending > 0 && !isEnough)
            {
                Note(loop.Read());
            }
        }

        double best = accuracies.Max();
        return new MadOutcome(best, accuracies.IndexOf(best) + 1, accuracies.Count, model.ParameterCount, skipped, losses, accuracies, []);

        void Note(MadEpoch epoch)
        {
            losses.Add(epoch.Loss);
            accuracies.Add(accuracy.Of(epoch.Hits));
            skipped += steps - epoch.Applied;
            isEnough = accuracies[^1] >= training.EnoughAccuracy;
            progress((double)losses.Count / training.Epochs, FormattableString.Invariant($"epoch {losses.Count}, loss {epoch.Loss:0.000}, accuracy {accuracies.Max():0.0%}"));
        }
    }

    /// <summary>The model's answers to the test, batch by batch, as the public implementation counts them.</summary>
    private static double Score(Device device, MadModel model, MadExamples test, int batch)
    {
        var score = new MadScore(model.Config.Vocabulary);
        for (int first = 0; first < test.Count; first += batch)
        {
            int some = Math.Min(batch, test.Count - first);
            Range range = (first * test.Length)..((first + some) * test.Length);
            int[] inputs = test.Inputs[range], targets = test.Targets[range];
            int[] positions = [.. Enumerable.Range(0, targets.Length).Where(i => targets[i] != MadTask.Ignored)];
            using Step step = device.BeginStep(recordGradients: false);
            using Tensor logits = model.Logits(device.From<int>(inputs, [some, test.Length]), device.From<int>(positions, [positions.Length]));
            score.Add(some, [.. positions.Select(position => targets[position])], Largest(logits.ToHost<float>(), model.Config.Vocabulary));
        }

        return score.Value;
    }

    /// <summary>The index of the largest number of each row, the first of equal ones; 0 where nothing is a number.</summary>
    private static int[] Largest(float[] rows, int width)
    {
        int[] largest = new int[rows.Length / width];
        for (int row = 0; row < largest.Length; row++)
        {
            ReadOnlySpan<float> values = rows.AsSpan(row * width, width);
            for (int i = 1; i < width; i++)
            {
                largest[row] = values[i] > values[largest[row]] ? i : largest[row];
            }
        }

        return largest;
    }

    /// <summary>Tests at another length, with as many tokens as the test at the task's own, or a few sequences at least.</summary>
    private static MadLength Test(Device device, MadModel model, MadTaskKind kind, MadSettings settings, MadTraining training)
    {
        MadTask task = kind.Create(settings);
        int count = (int)Math.Max(FewestLong, (long)settings.TestExamples * kind.Baseline.Length / settings.Length);
        int rows = (int)Math.Max(1, (long)training.Batch * kind.Baseline.Length / settings.Length);
        MadExamples examples = MadExamples.Generate(task, MadSplit.Test, training.Seed, count);
        using Tensor hits = device.Persistent([settings.Vocabulary], DType.Int32);
        for (int first = 0; first < count; first += rows)
        {
            int some = Math.Min(rows, count - first);
            Shape shape = [some, task.InputLength];
            using Step step = device.BeginStep(recordGradients: false);
            Range range = (first * task.InputLength)..((first + some) * task.InputLength);
            model.CountHits(device.From<int>(examples.Inputs.AsSpan(range), shape), device.From<int>(examples.Targets.AsSpan(range), shape), hits);
        }

        return new MadLength(settings.Length, new MadAccuracy(examples.Targets, settings.Vocabulary).Of(hits.ToHost<int>()));
    }
}
