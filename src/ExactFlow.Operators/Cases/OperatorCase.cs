using ExactFlow.Tensors;

namespace ExactFlow.Operators;

/// <summary>
/// One line of an operator's case table: shapes, edge values and tolerances. The same table drives the tests (against the float64 reference,
/// forward and backward), the gradient checks (finite differences of the reference), the benchmarks, and later the checks on a GPU.
/// </summary>
/// <param name="Operator">The operator's folder, such as <c>RmsNorm</c>.</param>
/// <param name="Name">What is special about this case.</param>
/// <param name="Inputs">The inputs, in the order that the functions below take them.</param>
/// <param name="Run">The operator on a device, inside an open step.</param>
/// <param name="Reference">The float64 reference: input values to output values, row-major.</param>
/// <param name="ReferenceGradient">The float64 gradient: input values and output gradients to input gradients (null for inputs without one).</param>
public sealed record OperatorCase(
    string Operator,
    string Name,
    IReadOnlyList<CaseInput> Inputs,
    Func<IReadOnlyList<Tensor>, IReadOnlyList<Tensor>> Run,
    Func<IReadOnlyList<double[]>, IReadOnlyList<double[]>> Reference,
    Func<IReadOnlyList<double[]>, IReadOnlyList<double[]>, IReadOnlyList<double[]?>> ReferenceGradient)
{
    /// <summary>Largest relative L2 error of an output in float32.</summary>
    public double ForwardTolerance { get; init; } = 2e-6;

    /// <summary>Largest relative L2 error of a gradient in float32.</summary>
    public double GradientTolerance { get; init; } = 5e-6;

    /// <summary>Largest relative L2 error of an output in bfloat16, whose numbers have 8 bits: one rounding is off by up to 2e-3. Say why where it is wider.</summary>
    public double BFloat16ForwardTolerance { get; init; } = 5e-3;

    /// <summary>Largest relative L2 error of a gradient in bfloat16. Say why where it is wider.</summary>
    public double BFloat16GradientTolerance { get; init; } = 1e-2;

    /// <summary>Whether <see cref="Run"/> only queues work, so that a GPU can capture it; false where it returns a number to the host or makes objects around the operator.</summary>
    public bool CanBeCaptured { get; init; } = true;

    /// <summary>
    /// Whether a call, in a steady state, allocates nothing native and little managed memory. False where <see cref="Run"/> itself makes objects
    /// around the operator (an optimizer and its parameters): such operators have a test of their own.
    /// </summary>
    public bool IsSteady { get; init; } = true;

    /// <summary>Whether the shape is one to time (the others are for correctness only).</summary>
    public bool IsBenchmark { get; init; }

    /// <summary>Floating-point operations of the forward pass, for benchmarks.</summary>
    public double ForwardFlops { get; init; }

    /// <summary>Bytes that the forward pass must move, for benchmarks.</summary>
    public double ForwardBytes { get; init; }

    /// <summary>Bytes that the backward pass must move (inputs and output gradients it needs, gradients it writes), for benchmarks.</summary>
    public double BackwardBytes { get; init; }

    /// <inheritdoc/>
    public override string ToString() => $"{Operator}: {Name}";
}

/// <summary>An input of a case: its shape and how its values are made (deterministically, from the case's name).</summary>
/// <param name="Name">Name as in the operator's signature.</param>
/// <param name="Shape">Shape.</param>
/// <param name="Values">How values are drawn.</param>
/// <param name="Scale">Standard deviation, half-width, constant, or exclusive maximum of integers.</param>
public sealed record CaseInput(string Name, Shape Shape, CaseValues Values = CaseValues.Normal, double Scale = 1)
{
    /// <summary>Whether a gradient is asked for.</summary>
    public bool Differentiable { get; init; } = Values != CaseValues.Integers;

    /// <summary>Explicit values instead of drawn ones.</summary>
    public double[]? Explicit { get; init; }

    /// <summary>What the input is in a model, which decides its number format in a bfloat16 run; by default what its name says.</summary>
    public CaseRole Role { get; init; } = Name switch
    {
        "weight" or "bias" or "row" or "aLog" or "dtBias" => CaseRole.ParameterVector,
        "table" or "headWeight" => CaseRole.ParameterMatrix,
        "beta" or "log_decay" => CaseRole.Scalar,
        "state" or "initial_state" => CaseRole.State,
        _ => CaseRole.Activation,
    };
}

/// <summary>What an input is in a model.</summary>
public enum CaseRole
{
    /// <summary>In the number format of the run, and so its gradient.</summary>
    Activation,

    /// <summary>Parameters per feature, channel or head: always float32.</summary>
    ParameterVector,

    /// <summary>A matrix of parameters: in a bfloat16 run a working copy of a float32 master, which takes the gradient.</summary>
    ParameterMatrix,

    /// <summary>Numbers of a token or of an optimizer that need their digits: always float32.</summary>
    Scalar,

    /// <summary>Carried from call to call: always float32.</summary>
    State,
}

/// <summary>How the values of a <see cref="CaseInput"/> are drawn.</summary>
public enum CaseValues
{
    /// <summary>Normal with standard deviation Scale.</summary>
    Normal,

    /// <summary>Uniform in [0, Scale).</summary>
    Uniform,

    /// <summary>Uniform in (-Scale, 0].</summary>
    Negative,

    /// <summary>Every value is Scale.</summary>
    Constant,

    /// <summary>Integers in [0, Scale), as Int32.</summary>
    Integers,
}

/// <summary>Implemented by each operator's <c>.Cases.cs</c>; found by reflection.</summary>
public interface IOperatorCases
{
    /// <summary>The table.</summary>
    static abstract IEnumerable<OperatorCase> Cases { get; }
}
