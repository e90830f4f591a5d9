using ExactFlow.Cuda;
using ExactFlow.Tensors;

namespace ExactFlow.Operators;

/// <summary>
/// Adam with decoupled weight decay and bias correction (Loshchilov and Hutter, arXiv 1711.05101; constants placed as in PyTorch's AdamW).
/// Owns its float32 moments. A step runs over all parameters as one flat parallel loop and gives the same bits for any number of threads.
/// </summary>
public sealed partial class AdamW : IDisposable
{
    private readonly Device device;
    private readonly Tensor[] firstMoments;
    private readonly Tensor[] secondMoments;
    private StepFactors factors;
    private AdamWResult outcome;
    private bool isBegun;

    /// <summary>Makes an optimizer with zero moments.</summary>
    /// <param name="parameters">All on one device; the list is read at every step and must not change.</param>
    /// <param name="options">The constants, or null for the defaults.</param>
    /// <exception cref="InvalidInputException">No parameters, parameters on several devices, or constants out of range.</exception>
    public AdamW(IReadOnlyList<Parameter> parameters, AdamWOptions? options = null)
    {
        ArgumentNullException.ThrowIfNull(parameters);
        Options = options ?? new AdamWOptions();
        Options.Validate();
        if (parameters.Count == 0)
        {
            throw new InvalidInputException("AdamW was given no parameters; pass those of the model to train.");
        }

        Parameters = parameters;
        device = parameters[0].Value.Device;
        firstMoments = new Tensor[parameters.Count];
        secondMoments = new Tensor[parameters.Count];
        try
        {
            Allocate();
        }
        catch
        {
            Dispose();
            throw;
        }
    }

    /// <summary>The constants.</summary>
    public AdamWOptions Options { get; }

    /// <summary>What is optimised.</summary>
    public IReadOnlyList<Parameter> Parameters { get; }

    /// <summary>Running means of the gradients, one per parameter and of its shape; checkpoints read and write them.</summary>
    public IReadOnlyList<Tensor> FirstMoments => firstMoments;

    /// <summary>Running means of the squared gradients, one per parameter and of its shape; checkpoints read and write them.</summary>
    public IReadOnlyList<Tensor> SecondMoments => secondMoments;

    /// <summary>Steps applied so far, which the bias correction depends on; a checkpoint sets it when it is read.</summary>
    public int StepCount { get; set; }

    /// <summary>
    /// Clips the gradients to a global norm and applies one step: <see cref="BeginStep"/>, <see cref="QueueClipAndStep"/> and <see cref="FinishStep"/> in a row.
    /// When the norm is not finite nothing is changed, neither parameters, moments nor <see cref="StepCount"/>.
    /// Parameters without a gradient are left alone. Gradients are kept; clear them with <see cref="ClearGradients"/>.
    /// </summary>
    /// <param name="learningRate">Step size, at least 0.</param>
    /// <param name="maximumNorm">The largest global norm after <paramref name="gradientScale"/>, or 0 for no clipping.</param>
    /// <param name="gradientScale">Factor for all gradients, such as one over the number of accumulated batches.</param>
    public AdamWResult ClipAndStep(float learningRate, double maximumNorm, float gradientScale = 1)
    {
        BeginStep(learningRate);
        QueueClipAndStep(maximumNorm, gradientScale);
        return FinishStep();
    }

    /// <summary>Makes ready for one step at a learning rate: what changes from step to step is computed here and, on a GPU, copied there.</summary>
    /// <param name="learningRate">Step size, at least 0.</param>
    /// <exception cref="InvalidInputException">The learning rate is negative or not finite.</exception>
    public void BeginStep(float learningRate)
    {
        if (!(learningRate >= 0 && float.IsFinite(learningRate)))
        {
            throw new InvalidInputException($"AdamW expects a finite learning rate of at least 0, but it is {learningRate}.");
        }

        factors = FactorsOf(StepCount + 1, learningRate);
        if (device is CudaDevice)
        {
            UploadFactors();
        }

        isBegun = true;
    }

    /// <summary>
    /// Computes the gradients' norm, clips them to it and updates parameters, moments and working copies. On a GPU the work is only queued, and everything
    /// that depends on the numbers is decided there: the call can be captured once its parameters have gradients and it has run once, and replayed
    /// between <see cref="BeginStep"/> and <see cref="FinishStep"/> of each step.
    /// </summary>
    /// <param name="maximumNorm">The largest global norm after <paramref name="gradientScale"/>, or 0 for no clipping.</param>
    /// <param name="gradientScale">Factor for all gradients, such as one over the number of accumulated batches.</param>
    /// <exception cref="InvalidOperationException">No step was begun.</exception>
    public void QueueClipAndStep(double maximumNorm, float gradientScale = 1)
    {
        RequireBegun();
        switch (device)
        {
            case CpuDevice cpu:
                ClipAndUpdate(cpu, maximumNorm, gradientScale);
                break;
            case CudaDevice gpu:
                QueueClipAndUpdate(gpu, maximumNorm, gradientScale);
                break;
            default:
                throw Require.Implementation(nameof(AdamW), device);
        }
    }

    /// <summary>Waits for the step and says what came of it; <see cref="StepCount"/> moves on if it was applied.</summary>
    /// <exception cref="InvalidOperationException">No step was begun.</exception>
    public AdamWResult FinishStep()
    {
        RequireBegun();
        isBegun = false;
        if (device is CudaDevice)
        {
            outcome = ReadOutcome();
        }

        StepCount += outcome.Applied ? 1 : 0;
        return outcome;
    }

    /// <summary>
    /// Ends a step without waiting for it, so that a GPU may be told many in a row: <see cref="StepCount"/> moves on, though a step whose norm is not
    /// finite changes nothing else.
    /// </summary>
    /// <exception cref="InvalidOperationException">No step was begun.</exception>
    public void EndStep()
    {
        RequireBegun();
        isBegun = false;
        StepCount++;
    }

    /// <summary>Applies one step with every gradient multiplied by <paramref name="gradientScale"/>, without clipping.</summary>
    /// <param name="learningRate">Step size, at least 0.</param>
    /// <param name="gradientScale">Factor for all gradients.</param>
    /// <returns>False, with nothing changed, when a gradient or the factor is not finite.</returns>
    public bool Step(float learningRate, float gradientScale = 1) => ClipAndStep(learningRate, maximumNorm: 0, gradientScale).Applied;

    /// <summary>Forgets all gradients, so that the next backward pass starts anew.</summary>
    public void ClearGradients()
    {
        for (int i = 0; i < Parameters.Count; i++)
        {
            Parameters[i].Value.ClearGrad();
        }
    }

    /// <summary>Releases the moments; the parameters stay.</summary>
    public void Dispose()
    {
        // When memory ran out in the constructor, not all of them are there.
        foreach (Tensor? moment in firstMoments)
        {
            moment?.Dispose();
        }

        foreach (Tensor? moment in secondMoments)
        {
            moment?.Dispose();
        }

        table?.Dispose();
        stepState?.Dispose();
    }

    private void Allocate()
    {
        for (int i = 0; i < Parameters.Count; i++)
        {
            Require.SameDevice(nameof(AdamW), Parameters[0].Name, Parameters[0].Value, Parameters[i].Name, Parameters[i].Value);
            firstMoments[i] = device.Persistent(Parameters[i].Value.Shape);
            secondMoments[i] = device.Persistent(Parameters[i].Value.Shape);
        }

        if (device is CudaDevice gpu)
        {
            PrepareFor(gpu);
        }
    }

    private StepFactors FactorsOf(int step, float learningRate) => new()
    {
        StepSize = (float)(learningRate / (1 - Math.Pow(Options.Beta1, step))),
        RootCorrection = (float)(1 / Math.Sqrt(1 - Math.Pow(Options.Beta2, step))),
        Shrink = (float)(1 - (learningRate * Options.WeightDecay)),
    };

    private void RequireBegun()
    {
        if (!isBegun)
        {
            throw new InvalidOperationException("A step of AdamW was queued or finished before it was begun: call BeginStep with its learning rate first.");
        }
    }

    private void ClipAndUpdate(CpuDevice cpu, double maximumNorm, float gradientScale)
    {
        double norm = Math.Abs((double)gradientScale) * Operators.GradientNorm.Compute(Parameters);
        outcome = new AdamWResult(norm, Applied: double.IsFinite(norm));
        if (outcome.Applied)
        {
            Update(cpu, gradientScale * Operators.GradientNorm.ClipFactor(norm, maximumNorm));
        }
    }

    /// <summary>What the update needs that changes from step to step.</summary>
    private struct StepFactors
    {
        /// <summary>learning rate / (1 - beta1^t).</summary>
        public float StepSize;

        /// <summary>1 / sqrt(1 - beta2^t).</summary>
        public float RootCorrection;

        /// <summary>1 - learning rate * weight decay, for parameters that decay.</summary>
        public float Shrink;
    }
}
