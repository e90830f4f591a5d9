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
}
