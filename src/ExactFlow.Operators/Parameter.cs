using ExactFlow.Tensors;

namespace ExactFlow.Operators;

/// <summary>A tensor that training changes: its name in files, its value, and whether weight decay pulls it towards zero.</summary>
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

    /// <summary>Releases the value and its gradient.</summary>
    public void Dispose() => Value.Dispose();

    /// <inheritdoc/>
    public override string ToString() => $"{Name} {Value.Shape}";
}
