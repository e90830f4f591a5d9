using System.Runtime.InteropServices;
using ExactFlow.Cuda;
using ExactFlow.Tensors;

namespace ExactFlow.Operators;

public sealed partial class AdamW
{
    private const int CudaThreads = 256;

    // Both are there exactly when the parameters are on a GPU.
    private CudaParameterTable? table;
    private Tensor? stepState;

    private void PrepareFor(CudaDevice gpu)
    {
        table = new CudaParameterTable(gpu, Parameters, firstMoments, secondMoments);
        stepState = CudaStepState.Allocate(gpu);
    }

    /// <summary>What the step needs goes to the device; the result of the last one is forgotten there.</summary>
    private void UploadFactors()
        => new CudaStepState { Norm = double.NaN, StepSize = factors.StepSize, RootCorrection = factors.RootCorrection, Shrink = factors.Shrink }.CopyTo(stepState!);

    private void QueueClipAndUpdate(CudaDevice gpu, double maximumNorm, float gradientScale)
    {
        table!.Update();
        Operators.GradientNorm.Queue(gpu, table, stepState!, maximumNorm, gradientScale);
        if (table.Count > 0)
        {
            var arguments = new UpdateArguments
            {
                Chunks = table.Address,
                State = stepState!.Address,
                Beta1 = (float)Options.Beta1,
                Rest1 = (float)(1 - Options.Beta1),
                Beta2 = (float)Options.Beta2,
                Rest2 = (float)(1 - Options.Beta2),
                Epsilon = (float)Options.Epsilon,
            };
            CudaLaunch.Run(gpu, "adamw.cu", "adamw_update", new LaunchGeometry(table.Count, 1, 1, CudaThreads, 1, 1, 0), arguments);
        }
    }

    /// <summary>
    /// Writes down what steps need that changes from one to the next, so that <see cref="QueueScheduledStep"/> can do them one after another without the host.
    /// On a GPU only.
    /// </summary>
    /// <param name="learningRates">The learning rate of every step from the next one on.</param>
    /// <returns>A persistent tensor; the caller disposes it.</returns>
    public Tensor Schedule(ReadOnlySpan<float> learningRates)
    {
        var states = new CudaStepState[learningRates.Length];
        for (int i = 0; i < states.Length; i++)
        {
            StepFactors step = FactorsOf(StepCount + 1 + i, learningRates[i]);
            states[i] = new CudaStepState { Norm = double.NaN, StepSize = step.StepSize, RootCorrection = step.RootCorrection, Shrink = step.Shrink };
        }

        ReadOnlySpan<int> numbers = MemoryMarshal.Cast<CudaStepState, int>(states);
        Tensor schedule = device.Persistent([numbers.Length], DType.Int32);
        schedule.CopyFrom(numbers);
        return schedule;
    }

    /// <summary>
    /// Queues the step of a schedule that is next, and notes what came of it; nothing is waited for or copied, so that a graph may hold many steps.
    /// A step whose gradients are not finite changes nothing and is not counted, but the schedule goes on.
    /// </summary>
    /// <param name="schedule">From <see cref="Schedule"/>.</param>
    /// <param name="position">Int32 [1]: which step of the schedule is next; moved on by one.</param>
    /// <param name="loss">Float32 scalar, the step's loss.</param>
    /// <param name="record">Int32 [2 or more]: to the first number, read as float32, the loss is added, and to the second one, if the step was applied.</param>
    /// <param name="maximumNorm">The largest global norm, or 0 for no clipping.</param>
    public void QueueScheduledStep(Tensor schedule, Tensor position, Tensor loss, Tensor record, double maximumNorm)
    {
        ArgumentNullException.ThrowIfNull(schedule);
        ArgumentNullException.ThrowIfNull(position);
        ArgumentNullException.ThrowIfNull(loss);
        ArgumentNullException.ThrowIfNull(record);
        var gpu = (CudaDevice)device;
        var arguments = new ScheduledArguments { Schedule = schedule.Address, State = stepState!.Address, Position = position.Address, Loss = loss.Address, Record = record.Address };
        var one = new LaunchGeometry(1, 1, 1, 32, 1, 1, 0);
        CudaLaunch.Run(gpu, "adamw.cu", "adamw_take", one, arguments);
        QueueClipAndUpdate(gpu, maximumNorm, 1);
        CudaLaunch.Run(gpu, "adamw.cu", "adamw_note", one, arguments);
    }

    private AdamWResult ReadOutcome()
    {
        CudaStepState state = CudaStepState.From(stepState!);
        return new AdamWResult(state.Norm, Applied: state.IsFinite != 0);
    }

    /// <summary><c>AdamWArgs</c> of adamw.cu.</summary>
    [StructLayout(LayoutKind.Sequential)]
    private struct UpdateArguments
    {
        public nint Chunks, State;
        public float Beta1, Rest1, Beta2, Rest2, Epsilon;
    }

    /// <summary><c>ScheduledArgs</c> of adamw.cu.</summary>
    [StructLayout(LayoutKind.Sequential)]
    private struct ScheduledArguments
    {
        public nint Schedule, State, Position, Loss, Record;
    }
}
