using ExactFlow.Cuda;
using ExactFlow.Tensors;

namespace ExactFlow.Operators;

/// <summary>
/// A tensor that training changes: its name in files, its value, and whether weight decay pulls it towards zero. On a GPU it may have a rounded copy
/// that the model computes with; the optimizer keeps the copy in step.
/// </summary>
public sealed class Parameter : IDisposable
{
    /// <summary>Names a persistent tensor and asks operators for its gradient from now on.</summary>
    /// <param name="name">Unique name, as written to files.</param>
    /// <param name="value">A persistent float32 tensor (<see cref="Device.Persistent"/>); the parameter owns it.</param>
    /// <param name="weightDecay">Whether <see cref="AdamW"/> decays it: matrices yes, norms, biases and decay rates no.</param>
    public Parameter(string name, Tensor value, bool weightDecay)
    {
        ArgumentException.ThrowIfNullOrEmpty(name);
        ArgumentNullException.ThrowIfNull(value);
        if (value.DType != DType.Float32)
        {
            throw new InvalidInputException($"Parameter {name} {value.Shape} must be float32, but it is {value.DType}; convert it first.");
        }

        Name = name;
        Value = value.RequireGrad();
        WeightDecay = weightDecay;
    }

    /// <summary>Unique name, as written to files.</summary>
    public string Name { get; }

    /// <summary>The value; its gradient is <see cref="Tensor.Grad"/>.</summary>
    public Tensor Value { get; }

    /// <summary>Whether weight decay applies.</summary>
    public bool WeightDecay { get; }

    /// <summary>The value rounded to another number format, sharing the gradient of <see cref="Value"/>, or null; see <see cref="AddWorkingCopy"/>.</summary>
    public Tensor? WorkingCopy { get; private set; }

    /// <summary>What operators read: the working copy when there is one, the value otherwise.</summary>
    public Tensor Working => WorkingCopy ?? Value;

    /// <summary>
    /// Gives the parameter a copy in bfloat16 to compute with, and fills it. <see cref="AdamW"/> writes it with every step; who changes <see cref="Value"/>
    /// otherwise calls <see cref="RefreshWorkingCopy"/>. Nothing when there is one already.
    /// </summary>
    /// <exception cref="InvalidInputException">The parameter is not on a GPU.</exception>
    public void AddWorkingCopy()
    {
        if (Value.Device is not CudaDevice)
        {
            throw new InvalidInputException(
                $"Parameter {Name} {Value.Shape} was to be computed with in bfloat16, which needs a GPU, but it is on {Value.Device.Name}: use float32 there, or --device cuda.");
        }

        WorkingCopy ??= Value.WorkingCopy(DType.BFloat16);
        RefreshWorkingCopy();
    }

    /// <summary>Rounds the value to the working copy anew, on the device: after weights were loaded or drawn. Nothing without a copy.</summary>
    public void RefreshWorkingCopy()
    {
        if (WorkingCopy is { } copy)
        {
            CudaArithmetic.Convert((CudaDevice)Value.Device, copy, Value);
        }
    }

    /// <summary>Releases the value, its gradient and its working copy.</summary>
    public void Dispose()
    {
        WorkingCopy?.Dispose();
        Value.Dispose();
    }

    /// <inheritdoc/>
    public override string ToString() => $"{Name} {Value.Shape}";
}
