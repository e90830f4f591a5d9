using System.Diagnostics;
using ExactFlow.Cuda;
using ExactFlow.Operators;
using ExactFlow.Tensors;
using ExactFlow.Tensors.Autograd;
using ExactFlow.Training.Options;
using ExactFlow.Training.Runs;

namespace ExactFlow.Training;

/// <summary>
/// The training loop. One call of <see cref="RunStep"/> is one optimizer step and whatever is due after it: validation, a sample, a checkpoint.
/// All that happens is a function of options, text and initial weights (and the machine and its thread count, which decide how sums are rounded),
/// so a run that was stopped or killed and resumed writes the same weights and the same <c>metrics.jsonl</c> as one that was not.
/// </summary>
/// <remarks>A step whose loss or gradient is not finite changes no weight and no moment; its text is passed over. Steady steps allocate no native memory.</remarks>
public sealed partial class Trainer : IDisposable
{
    private readonly TrainingOptions options;
    private readonly ITrainingTask task;
    private readonly TokenStream data;
    private readonly RunFolder run;
    private readonly ITrainingObserver observer;
    private readonly double machineFlopsPerSecond;
    private readonly LearningRateSchedule schedule;
    private readonly AdamW optimizer;
    private readonly Shape batchShape;
    private readonly int[] inputs;
    private readonly int[] targets;
    private readonly double stepFlops;
    private GraphedStep? graphedStep;
    private long position;
    private int updates;
    private int nonFiniteInARow;
    private double? validationLoss;
    private double? bestValidationLoss;
    private int? bestStep;
    private long startedAt;
    private int startedStep;

    /// <summary>Prepares training from the task's present weights, which are step 0; <see cref="Resume"/> or <see cref="Begin"/> comes next.</summary>
    /// <param name="options">The recipe.</param>
    /// <param name="task">The model.</param>
    /// <param name="data">The training text; its windows have the recipe's sequence length.</param>
    /// <param name="run">Where logs and checkpoints go; the caller disposes it after the trainer.</param>
    /// <param name="observer">Is told what happens.</param>
    /// <param name="machineFlopsPerSecond">Measured matrix-product rate for the step lines, or 0.</param>
    /// <exception cref="InvalidInputException">The recipe's values do not fit together.</exception>
    public Trainer(TrainingOptions options, ITrainingTask task, TokenStream data, RunFolder run, ITrainingObserver observer, double machineFlopsPerSecond = 0)
    {
        this.options = options ?? throw new ArgumentNullException(nameof(options));
        this.task = task ?? throw new ArgumentNullException(nameof(task));
        this.data = data ?? throw new ArgumentNullException(nameof(data));
        this.run = run ?? throw new ArgumentNullException(nameof(run));
        this.observer = observer ?? throw new ArgumentNullException(nameof(observer));
        this.machineFlopsPerSecond = machineFlopsPerSecond;
        OptimizerOptions rates = options.Optimizer;
        schedule = new LearningRateSchedule(rates.LearningRate, rates.StartLearningRate, rates.EndLearningRate, Math.Min(rates.WarmUpSteps, options.Steps), options.Steps);
        optimizer = new AdamW(task.Parameters, new AdamWOptions
        {
            Beta1 = (float)rates.Beta1, Beta2 = (float)rates.Beta2, Epsilon = (float)rates.Epsilon, WeightDecay = (float)rates.WeightDecay,
        });
        batchShape = [options.Data.BatchSize, data.SequenceLength];
        inputs = new int[batchShape.Count];
        targets = new int[batchShape.Count];
        stepFlops = task.FlopsPerToken(data.SequenceLength) * TokensPerStep;
    }

    /// <summary>Whether a step on a GPU is captured as a graph and replayed, or queued operator by operator every time: the bits are the same. Set it before the first step.</summary>
    public bool CapturesSteps { get; set; } = true;

    /// <summary>Steps done.</summary>
    public int StepsDone { get; private set; }

    /// <summary>Whether the last step is done.</summary>
    public bool IsFinished => StepsDone >= options.Steps;

    /// <summary>Steps that were not applied because the loss or the gradient was not finite.</summary>
    public int SkippedSteps => StepsDone - updates;

    /// <summary>Tokens of one optimizer step.</summary>
    public int TokensPerStep => (int)(batchShape.Count * options.Data.Accumulation);

    /// <summary>Begins a new run: logs are emptied and the recipe is written.</summary>
    public void Begin()
    {
        run.RewindLogs(null);
        run.Write("recipe.json", OptionsJson.Write(options));
        OpenTensorBoard();
        StartClock();
    }

    /// <summary>Trains to the end, or until asked to stop; either way the last thing done is a checkpoint.</summary>
    /// <returns>Whether the run is finished.</returns>
    /// <exception cref="InvalidInputException">Too many steps in a row were not finite, or the disk is full: earlier checkpoints are intact.</exception>
    public bool Run(CancellationToken stop)
    {
        while (!IsFinished && !stop.IsCancellationRequested)
        {
            RunStep();
        }

        Stop();
        return IsFinished;
    }

    /// <summary>Does one step and what is due after it.</summary>
    /// <exception cref="InvalidOperationException">The run is finished.</exception>
    /// <exception cref="InvalidInputException">Too many steps in a row were not finite, or the disk is full: earlier checkpoints are intact.</exception>
    public StepRecord RunStep()
    {
        if (IsFinished)
        {
            throw new InvalidOperationException($"The run has {options.Steps} steps, and all are done.");
        }

        long start = Stopwatch.GetTimestamp();
        double rate = schedule.At(StepsDone);
        (double loss, AdamWResult update) = Update((float)rate);
        double milliseconds = Stopwatch.GetElapsedTime(start).TotalMilliseconds;

        StepsDone++;
        position += (long)options.Data.BatchSize * options.Data.Accumulation;
        updates += update.Applied ? 1 : 0;
        nonFiniteInARow = update.Applied ? 0 : nonFiniteInARow + 1;
        StepRecord record = Describe(loss, rate, update, milliseconds);
        Log(record);
        observer.OnStep(record);
        if (!update.Applied)
        {
            HandleNonFinite(loss);
        }

        LookAround();
        return record;
    }

    /// <summary>Writes a checkpoint of the present step unless there is one.</summary>
    public void Stop()
    {
        if (lastCheckpoint != StepsDone)
        {
            SaveCheckpoint();
        }
    }

    /// <summary>Releases the optimizer and closes the TensorBoard events; task, data and folder stay the caller's.</summary>
    public void Dispose()
    {
        tensorBoard?.Dispose();
        graphedStep?.Dispose();
        optimizer.Dispose();
    }

    /// <summary>One optimizer step, whatever the device.</summary>
    private (double Loss, AdamWResult Update) Update(float rate)
    {
        try
        {
            if (task.Device is CudaDevice gpu)
            {
                graphedStep ??= new GraphedStep(
                    gpu, Loss, optimizer, new GraphedStepOptions(options.Data.BatchSize, data.SequenceLength, options.Data.Accumulation, options.Optimizer.Clip, CapturesSteps && !data.SeparatesDocuments));
                return graphedStep.Run(data, position, rate);
            }

            double loss = AccumulateGradients();
            AdamWResult update = double.IsFinite(loss)
                ? optimizer.ClipAndStep(rate, options.Optimizer.Clip, 1f / options.Data.Accumulation)
                : new AdamWResult(double.NaN, Applied: false);
            optimizer.ClearGradients();
            return (loss, update);
        }
        catch (OutOfMemoryException exception)
        {
            throw new InvalidInputException(
                $"A training step of {options.Data.BatchSize} x {data.SequenceLength} tokens needs more memory than there is ({exception.Message.TrimEnd('.')}); lower data.batch_size and raise data.accumulation as much, lower data.sequence_length, or set model.recompute.", exception);
        }
    }

    /// <summary>Adds up the gradients of the step's batches and returns their mean loss; stops at the first loss that is not finite.</summary>
    private double AccumulateGradients()
    {
        double sum = 0;
        for (int batch = 0; batch < options.Data.Accumulation && double.IsFinite(sum); batch++)
        {
            long first = position + ((long)batch * options.Data.BatchSize);
            data.Read(first, inputs, targets);
            SequenceOffsets? documents = data.Documents(first, options.Data.BatchSize);
            using Step step = task.Device.BeginStep();
            step.ReleasesBehindBackward = true;
            Shape shape = documents is null ? batchShape : [1, inputs.Length];
            Tensor loss = Loss(task.Device.From<int>(inputs, shape), task.Device.From<int>(targets, shape), documents);
            float value = loss.Item();
            sum += value;
            if (float.IsFinite(value))
            {
                loss.Backward();
            }
        }

        return sum / options.Data.Accumulation;
    }

    private Tensor Loss(Tensor batchInputs, Tensor batchTargets, SequenceOffsets? documents)
        => documents is null ? task.Loss(batchInputs, batchTargets) : task.Loss(batchInputs, batchTargets, documents);

    private StepRecord Describe(double loss, double rate, AdamWResult update, double milliseconds) => new()
    {
        Step = StepsDone,
        Steps = options.Steps,
        Loss = loss,
        LearningRate = rate,
        GradientNorm = update.GradientNorm,
        Applied = update.Applied,
        SkippedSteps = SkippedSteps,
        Tokens = TokensPerStep,
        Milliseconds = milliseconds,
        Flops = stepFlops,
        MachineFlopsPerSecond = machineFlopsPerSecond,
        SecondsLeft = Stopwatch.GetElapsedTime(startedAt).TotalSeconds / (StepsDone - startedStep) * (options.Steps - StepsDone),
    };

    private void HandleNonFinite(double loss)
    {
        string what = double.IsFinite(loss) ? "the gradient" : "the loss";
        if (nonFiniteInARow < options.MaxNonFiniteSteps)
        {
            observer.OnWarning($"Step {StepsDone} was not applied: {what} is not finite ({nonFiniteInARow} in a row; the run ends at {options.MaxNonFiniteSteps}).");
            return;
        }

        string intact = run.Checkpoints.Steps() is [int newest, ..] ? $"the checkpoint of step {newest} is intact" : "no checkpoint was written yet";
        throw new InvalidInputException(
            $"Training ended at step {StepsDone}: {what} was not finite in {nonFiniteInARow} steps in a row, none of which was applied ({intact}); lower optimizer.learning_rate or raise optimizer.warm_up_steps.");
    }

    private void LookAround()
    {
        bool isRecord = false;
        if (IsDue(options.Evaluation.Every))
        {
            ValidationResult result = task.Validate();
            validationLoss = result.Loss;
            isRecord = double.IsFinite(result.Loss) && (bestValidationLoss is not { } best || result.Loss < best);
            if (isRecord)
            {
                bestValidationLoss = result.Loss;
                bestStep = StepsDone;
            }

            Log(result);
            observer.OnValidation(StepsDone, result);
        }

        if (options.Evaluation.SampleTokens > 0 && IsDue(options.Evaluation.SampleEvery) && task.Sample(StepsDone) is { } sample)
        {
            Log(sample);
            observer.OnSample(StepsDone, sample);
        }

        if (IsDue(options.Checkpoints.Every) || (isRecord && options.Checkpoints.KeepBest))
        {
            SaveCheckpoint();
        }
    }

    private bool IsDue(int every) => IsFinished || (every > 0 && StepsDone % every == 0);

    private void StartClock()
    {
        startedAt = Stopwatch.GetTimestamp();
        startedStep = StepsDone;
    }
}
