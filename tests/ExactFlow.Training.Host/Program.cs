using System.Runtime.InteropServices;
using ExactFlow.Tensors;
using ExactFlow.Training;
using ExactFlow.Training.Host;
using ExactFlow.Training.Options;
using ExactFlow.Training.Runs;

// Trains the tiny model in the folder given first, with the settings that follow, resuming automatically: a process to kill. Says each step and checkpoint on a line of its own.
using var stop = new CancellationTokenSource();
using PosixSignalRegistration terminate = PosixSignalRegistration.Create(PosixSignal.SIGTERM, Cancel);
using PosixSignalRegistration interrupt = PosixSignalRegistration.Create(PosixSignal.SIGINT, Cancel);
try
{
    TrainingOptions options = OptionsJson.Load<TrainingOptions>(null, args.Skip(1));
    using var device = new CpuDevice(threads: 1);
    using var task = new TinyTask(device, options.Seed, options.Data.SequenceLength);
    using var run = new RunFolder(args[0]);
    using var trainer = new Trainer(options, task, new TokenStream(TinyTask.Text(5_000, 1), options.Data.SequenceLength, (ulong)options.Seed), run, new LineObserver());
    trainer.Resume("auto");
    Console.WriteLine($"begin {trainer.StepsDone}");
    return trainer.Run(stop.Token) ? 0 : 3;
}
catch (InvalidInputException exception)
{
    Console.Error.WriteLine(exception.Message);
    return 2;
}

void Cancel(PosixSignalContext context)
{
    context.Cancel = true;
    stop.Cancel();
}

/// <summary>Writes what happens to standard output.</summary>
internal sealed class LineObserver : ITrainingObserver
{
    public void OnStep(in StepRecord step) => Console.WriteLine($"step {step.Step}");

    public void OnValidation(int step, ValidationResult result)
    {
    }

    public void OnSample(int step, SampleText sample)
    {
    }

    public void OnCheckpoint(int step, string folder) => Console.WriteLine($"checkpoint {step}");

    public void OnWarning(string sentence) => Console.WriteLine($"warning {sentence}");
}
