using ExactFlow.Operators;
using ExactFlow.Tensors;

namespace ExactFlow.Models.Layers;

/// <summary>
/// A parameter as a layer declares it: name, shape and start. It has memory only after <see cref="Adopt"/>,
/// so that a model of any size can be described and counted without any.
/// </summary>
public sealed class ModelParameter
{
    private Parameter? parameter;

    internal ModelParameter(string name, Shape shape, Initializer initializer, bool weightDecay, Shape fileShape, bool isMatrix)
    {
        Name = name;
        Shape = shape;
        Initializer = initializer;
        WeightDecay = weightDecay;
        FileShape = fileShape;
        IsMatrix = isMatrix;
    }

    /// <summary>Name in files, such as <c>model.layers.0.attn.q_proj.weight</c>.</summary>
    public string Name { get; }

    /// <summary>Shape as operators take it.</summary>
    public Shape Shape { get; }

    /// <summary>Shape in files: that of <see cref="Shape"/>, except convolutions, which are [channels, 1, width] there.</summary>
    public Shape FileShape { get; }

    /// <summary>How it starts.</summary>
    public Initializer Initializer { get; }

    /// <summary>Whether weight decay applies: matrices yes; norms, biases and decay rates no.</summary>
    public bool WeightDecay { get; }

    /// <summary>Whether it multiplies activations or is looked up: such parameters have a working copy in bfloat16 where the model computes in it.</summary>
    public bool IsMatrix { get; }

    /// <summary>The parameter for the optimizer.</summary>
    /// <exception cref="InvalidOperationException">The model was described only, not allocated.</exception>
    public Parameter Parameter => parameter ?? throw new InvalidOperationException($"Parameter {Name} has no memory: the model was described, not built on a device.");

    /// <summary>The value, float32.</summary>
    public Tensor Value => Parameter.Value;

    /// <summary>What operators multiply by: the working copy in the number format of the activations, or the value itself.</summary>
    public Tensor Working => Parameter.Working;

    /// <summary>Gives it memory that is to be written next.</summary>
    internal void Allocate(Device device) => Adopt(device.PersistentEmpty(Shape));

    /// <summary>Gives it a value, float32 of <see cref="Shape"/>, which it owns from now on.</summary>
    internal void Adopt(Tensor value) => parameter = new Parameter(Name, value, WeightDecay);

    internal void Release()
    {
        parameter?.Dispose();
        parameter = null;
    }

    /// <summary>Makes what operators read agree with the value, at the model's precision.</summary>
    internal void Refresh(DType precision)
    {
        if (IsMatrix && precision != DType.Float32)
        {
            Parameter.AddWorkingCopy();
        }
    }
}
