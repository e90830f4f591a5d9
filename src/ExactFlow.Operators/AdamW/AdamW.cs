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
        for (int i = 0; i < parameters.Count; i++)
        {
            Require.SameDevice(nameof(AdamW), parameters[0].Name, parameters[0].Value, parameters[i].Name, parameters[i].Value);
            firstMoments[i] = device.Persistent(parameters[i].Value.Shape);
            secondMoments[i] = device.Persistent(parameters[i].Value.Shape);
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
    /// Clips the gradients to a global norm and applies one step. When the norm is not finite nothing is changed, neither parameters, moments nor
    /// <see cref="StepCount"/>. Parameters without a gradient are left alone. Gradients are kept; clear them with <see cref="ClearGradients"/>.
    /// </summary>
    /// <param name="learningRate">Step size, at least 0.</param>
    /// <param name="maximumNorm">The largest global norm after <paramref name="gradientScale"/>, or 0 for no clipping.</param>
    /// <param name="gradientScale">Factor for all gradients, such as one over the number of accumulated batches.</param>
    public AdamWResult ClipAndStep(float learningRate, double maximumNorm, float gradientScale = 1)
    {
        double norm = Math.Abs((double)gradientScale) * Operators.GradientNorm.Compute(Parameters);
        if (!double.IsFinite(norm))
        {
            return new AdamWResult(norm, Applied: false);
        }

        Apply(learningRate, gradientScale * Operators.GradientNorm.ClipFactor(norm, maximumNorm));
        return new AdamWResult(norm, Applied: true);
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
        foreach (Tensor moment in firstMoments)
        {
            moment.Dispose();
        }

        foreach (Tensor moment in secondMoments)
        {
            moment.Dispose();
        }
    }

    private void Apply(float learningRate, float gradientScale)
    {
        if (!(learningRate >= 0 && float.IsFinite(learningRate)))
        {
            throw new InvalidInputException($"AdamW expects a finite learning rate of at least 0, but it is {learningRate}.");
        }

        StepCount++;
        switch (device)
        {
            case CpuDevice cpu:
                Update(cpu, learningRate, gradientScale);
                break;
            default:
                throw Require.Implementation(nameof(AdamW), device);
        }
    }
}
