using ExactFlow.Cuda;
using ExactFlow.Tensors;

namespace ExactFlow.Training.Benchmarks;

/// <summary>What an operator takes, and how models keep it in bfloat16.</summary>
/// <param name="Shape">Its shape.</param>
/// <param name="Role">Its part.</param>
/// <param name="Limit">Of token ids, the vocabulary.</param>
internal sealed record InputKind(Shape Shape, InputRole Role, int Limit = 0)
{
    /// <summary>A bfloat16 result of another operator.</summary>
    public static InputKind Activation(Shape shape) => new(shape, InputRole.Activation);

    /// <summary>A parameter that is no matrix of a product.</summary>
    public static InputKind Vector(params ReadOnlySpan<int> shape) => new([.. shape], InputRole.Vector);

    /// <summary>A parameter that products read.</summary>
    public static InputKind Matrix(int rows, int columns) => new([rows, columns], InputRole.Matrix);

    /// <summary>Token ids.</summary>
    public static InputKind Ids(Shape shape, int limit) => new(shape, InputRole.Ids, limit);
}

/// <summary>The part that an input of an operator has in a model.</summary>
internal enum InputRole
{
    /// <summary>Bfloat16, ends with the step, and so does its gradient.</summary>
    Activation,

    /// <summary>Float32.</summary>
    Vector,

    /// <summary>A bfloat16 copy of a float32 master, which has the gradient.</summary>
    Matrix,

    /// <summary>Int32.</summary>
    Ids,
}

/// <summary>An input of an operator under measurement.</summary>
internal sealed class BenchmarkInput : IDisposable
{
    private readonly InputRole role;
    private readonly Tensor values;
    private readonly Tensor? master;

    /// <summary>Makes it, with random numbers.</summary>
    public BenchmarkInput(CudaDevice device, InputKind kind, string name)
    {
        role = kind.Role;
        if (role == InputRole.Matrix)
        {
            master = device.Persistent(kind.Shape).RequireGrad();
            master.Zero();
            values = master.WorkingCopy(DType.BFloat16);
            using Tensor random = RandomTensors.Normal(device, kind.Shape, DType.BFloat16, 0.02f, name);
            values.CopyFrom(random);
            return;
        }

        values = role switch
        {
            InputRole.Ids => RandomTensors.WordIds(device, kind.Shape, kind.Limit, name),
            InputRole.Vector => RandomTensors.Normal(device, kind.Shape, DType.Float32, 1, name).RequireGrad(),
            _ => RandomTensors.Normal(device, kind.Shape, DType.BFloat16, 1, name),
        };
    }

    /// <summary>What the operator reads in the open step, without a gradient yet. Activations are tensors of the step, so that their gradients are handed over and not copied.</summary>
    public Tensor ForStep()
    {
        if (role == InputRole.Activation)
        {
            return values.Slice(0, values.Shape[0]).RequireGrad();
        }

        if (role != InputRole.Ids)
        {
            (master ?? values).ClearGrad();
        }

        return values;
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        values.Dispose();
        master?.Dispose();
    }
}
