using ExactFlow.Tensors;
using ExactFlow.Tensors.Autograd;

namespace ExactFlow.Operators;

/// <summary>
/// Operators that treat every element alike: activations of one tensor, sums and products of two of equal shape, and a row added to every row.
/// All take and give float32 of any shape. Gradients of activations are recomputed from the input, so nothing is kept but the input itself.
/// </summary>
public static unsafe partial class Elementwise
{
    private enum Activation
    {
        Silu,
        Gelu,
        Sigmoid,
        Softplus,
    }

    /// <summary>SiLU: x * sigmoid(x).</summary>
    /// <param name="x">Float32, any shape.</param>
    /// <exception cref="InvalidInputException">Not float32, or a device without this operator.</exception>
    public static Tensor Silu(Tensor x) => Activate(Activation.Silu, x);

    /// <summary>GELU by its definition, x * (1 + erf(x / sqrt 2)) / 2, not the tanh approximation.</summary>
    /// <param name="x">Float32, any shape.</param>
    /// <exception cref="InvalidInputException">Not float32, or a device without this operator.</exception>
    public static Tensor Gelu(Tensor x) => Activate(Activation.Gelu, x);

    /// <summary>Logistic function: 1 / (1 + exp(-x)).</summary>
    /// <param name="x">Float32, any shape.</param>
    /// <exception cref="InvalidInputException">Not float32, or a device without this operator.</exception>
    public static Tensor Sigmoid(Tensor x) => Activate(Activation.Sigmoid, x);

    /// <summary>Softplus: log(1 + exp(x)), without overflow for large x.</summary>
    /// <param name="x">Float32, any shape.</param>
    /// <exception cref="InvalidInputException">Not float32, or a device without this operator.</exception>
    public static Tensor Softplus(Tensor x) => Activate(Activation.Softplus, x);

    /// <summary>a + b.</summary>
    /// <param name="a">Float32, any shape.</param>
    /// <param name="b">The shape of <paramref name="a"/>.</param>
    /// <exception cref="InvalidInputException">Shapes, dtypes or devices differ.</exception>
    public static Tensor Add(Tensor a, Tensor b)
    {
        Require.SameShape("Elementwise.Add", "a", a, "b", b);
        Tensor y = a.Device.Empty(a.Shape);
        switch (a.Device)
        {
            case CpuDevice cpu:
                Sum(cpu, a, b, y);
                break;
            default:
                throw Require.Implementation("Elementwise.Add", a.Device);
        }

        if (Recording.TapeFor(a, b) is { } tape)
        {
            RecordAdd(tape, a, b, y);
        }

        return y;
    }

    /// <summary>a * b, element by element.</summary>
    /// <param name="a">Float32, any shape.</param>
    /// <param name="b">The shape of <paramref name="a"/>.</param>
    /// <exception cref="InvalidInputException">Shapes, dtypes or devices differ.</exception>
    public static Tensor Multiply(Tensor a, Tensor b)
    {
        Require.SameShape("Elementwise.Multiply", "a", a, "b", b);
        Tensor y = a.Device.Empty(a.Shape);
        switch (a.Device)
        {
            case CpuDevice cpu:
                Product(cpu, a, b, y, accumulate: false);
                break;
            default:
                throw Require.Implementation("Elementwise.Multiply", a.Device);
        }

        if (Recording.TapeFor(a, b) is { } tape)
        {
            RecordMultiply(tape, a, b, y);
        }

        return y;
    }

    /// <summary>factor * x.</summary>
    /// <param name="x">Float32, any shape.</param>
    /// <param name="factor">A constant: no gradient.</param>
    /// <exception cref="InvalidInputException">Not float32, or a device without this operator.</exception>
    public static Tensor Scale(Tensor x, float factor)
    {
        Require.Float32("Elementwise.Scale", "x", x);
        Tensor y = x.Device.Empty(x.Shape);
        switch (x.Device)
        {
            case CpuDevice cpu:
                Scaled(cpu, x, factor, y, accumulate: false);
                break;
            default:
                throw Require.Implementation("Elementwise.Scale", x.Device);
        }

        if (Recording.TapeFor(x) is { } tape)
        {
            RecordScale(tape, x, factor, y);
        }

        return y;
    }

    /// <summary>x with <paramref name="row"/> added to each of its rows (a bias).</summary>
    /// <param name="x">Float32 <c>[..., dim]</c>.</param>
    /// <param name="row">Float32 <c>[dim]</c>.</param>
    /// <exception cref="InvalidInputException">The row is not as long as the last dimension of x; dtypes or devices differ.</exception>
    public static Tensor AddRow(Tensor x, Tensor row)
    {
        Require.Rows("Elementwise.AddRow", "x", x);
        Require.PerFeature("Elementwise.AddRow", "row", row, "x", x);
        Tensor y = x.Device.Empty(x.Shape);
        switch (x.Device)
        {
            case CpuDevice cpu:
                SumWithRow(cpu, x, row, y);
                break;
            default:
                throw Require.Implementation("Elementwise.AddRow", x.Device);
        }

        if (Recording.TapeFor(x, row) is { } tape)
        {
            RecordAddRow(tape, x, row, y);
        }

        return y;
    }

    private static Tensor Activate(Activation activation, Tensor x)
    {
        Require.Float32(NameOf(activation), "x", x);
        Tensor y = x.Device.Empty(x.Shape);
        switch (x.Device)
        {
            case CpuDevice cpu:
                Forward(cpu, activation, x, y);
                break;
            default:
                throw Require.Implementation(NameOf(activation), x.Device);
        }

        if (Recording.TapeFor(x) is { } tape)
        {
            RecordActivation(tape, activation, x, y);
        }

        return y;
    }

    private static string NameOf(Activation activation) => activation switch
    {
        Activation.Silu => "Elementwise.Silu",
        Activation.Gelu => "Elementwise.Gelu",
        Activation.Sigmoid => "Elementwise.Sigmoid",
        _ => "Elementwise.Softplus",
    };

    // Recording stands in methods of its own: a closure is allocated on entry to the method that declares it, recorded or not.
    private static void RecordActivation(Tape tape, Activation activation, Tensor x, Tensor y)
        => tape.Record(y, () =>
        {
            Tensor gradient = x.GradForWrite(out bool accumulate);
            Backward((CpuDevice)x.Device, activation, x, y.Grad!, gradient, accumulate);
        });

    private static void RecordAdd(Tape tape, Tensor a, Tensor b, Tensor y)
        => tape.Record(y, () =>
        {
            if (a.RequiresGrad)
            {
                Tensor gradient = a.GradForWrite(out bool accumulate);
                Scaled((CpuDevice)a.Device, y.Grad!, 1, gradient, accumulate);
            }

            if (b.RequiresGrad)
            {
                Tensor gradient = b.GradForWrite(out bool accumulate);
                Scaled((CpuDevice)b.Device, y.Grad!, 1, gradient, accumulate);
            }
        });

    private static void RecordMultiply(Tape tape, Tensor a, Tensor b, Tensor y)
        => tape.Record(y, () =>
        {
            if (a.RequiresGrad)
            {
                Tensor gradient = a.GradForWrite(out bool accumulate);
                Product((CpuDevice)a.Device, y.Grad!, b, gradient, accumulate);
            }

            if (b.RequiresGrad)
            {
                Tensor gradient = b.GradForWrite(out bool accumulate);
                Product((CpuDevice)b.Device, y.Grad!, a, gradient, accumulate);
            }
        });

    private static void RecordScale(Tape tape, Tensor x, float factor, Tensor y)
        => tape.Record(y, () =>
        {
            Tensor gradient = x.GradForWrite(out bool accumulate);
            Scaled((CpuDevice)x.Device, y.Grad!, factor, gradient, accumulate);
        });

    private static void RecordAddRow(Tape tape, Tensor x, Tensor row, Tensor y)
        => tape.Record(y, () =>
        {
            if (x.RequiresGrad)
            {
                Tensor gradient = x.GradForWrite(out bool accumulate);
                Scaled((CpuDevice)x.Device, y.Grad!, 1, gradient, accumulate);
            }

            if (row.RequiresGrad)
            {
                Tensor gradient = row.GradForWrite(out bool accumulate);
                RowSums.Run((CpuDevice)row.Device, y.Grad!, gradient, accumulate);
            }
        });
}
