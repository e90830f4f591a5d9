using ExactFlow.Cuda;
using ExactFlow.Tensors;
using ExactFlow.Tensors.Autograd;

namespace ExactFlow.Operators;

/// <summary>
/// Operators that treat every element alike: activations of one tensor, sums and products of two of equal shape, and a row added to every row.
/// All take and give float32 of any shape, on a GPU bfloat16 too. Gradients of activations are recomputed from the input, so nothing is kept but the input itself.
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
    /// <param name="x">Float32, or bfloat16 on a GPU; any shape.</param>
    /// <exception cref="InvalidInputException">Neither of these, or a device without this operator.</exception>
    public static Tensor Silu(Tensor x) => Activate(Activation.Silu, x);

    /// <summary>GELU by its definition, x * (1 + erf(x / sqrt 2)) / 2, not the tanh approximation.</summary>
    /// <param name="x">Float32, or bfloat16 on a GPU; any shape.</param>
    /// <exception cref="InvalidInputException">Neither of these, or a device without this operator.</exception>
    public static Tensor Gelu(Tensor x) => Activate(Activation.Gelu, x);

    /// <summary>Logistic function: 1 / (1 + exp(-x)).</summary>
    /// <param name="x">Float32, or bfloat16 on a GPU; any shape.</param>
    /// <exception cref="InvalidInputException">Neither of these, or a device without this operator.</exception>
    public static Tensor Sigmoid(Tensor x) => Activate(Activation.Sigmoid, x);

    /// <summary>The logistic function in another number format: of bfloat16 in float32, in one pass and without rounding.</summary>
    /// <param name="x">Float32, or bfloat16 on a GPU; any shape.</param>
    /// <param name="type">As for <see cref="Convert"/>.</param>
    /// <exception cref="InvalidInputException">As for <see cref="Convert"/>.</exception>
    public static Tensor Sigmoid(Tensor x, DType type)
    {
        Require.Floating("Elementwise.Sigmoid", "x", x);
        if (x.Device is not CudaDevice gpu || x.DType != DType.BFloat16 || type != DType.Float32)
        {
            return Convert(Sigmoid(x), type);
        }

        Tensor y = gpu.Empty(x.Shape, type);
        SigmoidToFloat32(gpu, x, y);
        if (Recording.TapeFor(x) is { } tape)
        {
            RecordSigmoidToFloat32(tape, gpu, x, y);
        }

        return y;
    }

    /// <summary>Softplus: log(1 + exp(x)), without overflow for large x.</summary>
    /// <param name="x">Float32, or bfloat16 on a GPU; any shape.</param>
    /// <exception cref="InvalidInputException">Neither of these, or a device without this operator.</exception>
    public static Tensor Softplus(Tensor x) => Activate(Activation.Softplus, x);

    /// <summary>a + b.</summary>
    /// <param name="a">Float32, or bfloat16 on a GPU; any shape.</param>
    /// <param name="b">The shape and dtype of <paramref name="a"/>.</param>
    /// <exception cref="InvalidInputException">Shapes, dtypes or devices differ.</exception>
    public static Tensor Add(Tensor a, Tensor b)
    {
        Require.SameShape("Elementwise.Add", "a", a, "b", b);
        Tensor y = a.Device.Empty(a.Shape, a.DType);
        switch (a.Device)
        {
            case CpuDevice cpu:
                Sum(cpu, a, b, y);
                break;
            case CudaDevice gpu:
                Sum(gpu, a, b, y);
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
    /// <param name="a">Float32, or bfloat16 on a GPU; any shape.</param>
    /// <param name="b">The shape and dtype of <paramref name="a"/>.</param>
    /// <exception cref="InvalidInputException">Shapes, dtypes or devices differ.</exception>
    public static Tensor Multiply(Tensor a, Tensor b)
    {
        Require.SameShape("Elementwise.Multiply", "a", a, "b", b);
        Tensor y = a.Device.Empty(a.Shape, a.DType);
        switch (a.Device)
        {
            case CpuDevice cpu:
                Product(cpu, a, b, y, accumulate: false);
                break;
            case CudaDevice gpu:
                Product(gpu, a, b, CudaTarget.Over(y));
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
    /// <param name="x">Float32, or bfloat16 on a GPU; any shape.</param>
    /// <param name="factor">A constant: no gradient.</param>
    /// <exception cref="InvalidInputException">Neither of these, or a device without this operator.</exception>
    public static Tensor Scale(Tensor x, float factor)
    {
        Require.Floating("Elementwise.Scale", "x", x);
        Tensor y = x.Device.Empty(x.Shape, x.DType);
        switch (x.Device)
        {
            case CpuDevice cpu:
                Scaled(cpu, x, factor, y, accumulate: false);
                break;
            case CudaDevice gpu:
                Scaled(gpu, x, factor, CudaTarget.Over(y));
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
    /// <param name="x">Float32 <c>[..., dim]</c>, or bfloat16 on a GPU.</param>
    /// <param name="row">Float32 <c>[dim]</c>.</param>
    /// <exception cref="InvalidInputException">The row is not as long as the last dimension of x; dtypes or devices differ.</exception>
    public static Tensor AddRow(Tensor x, Tensor row)
    {
        Require.Rows("Elementwise.AddRow", "x", x);
        Require.PerFeature("Elementwise.AddRow", "row", row, "x", x);
        Tensor y = x.Device.Empty(x.Shape, x.DType);
        switch (x.Device)
        {
            case CpuDevice cpu:
                SumWithRow(cpu, x, row, y);
                break;
            case CudaDevice gpu:
                SumWithRow(gpu, x, row, y);
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

    /// <summary>x in another number format, rounded to nearest even; x itself where it has that format. The gradient is converted back.</summary>
    /// <param name="x">Float32, or bfloat16 on a GPU; any shape.</param>
    /// <param name="type">Float32, or bfloat16 on a GPU.</param>
    /// <exception cref="InvalidInputException">Neither of these, or a device without this operator.</exception>
    public static Tensor Convert(Tensor x, DType type)
    {
        Require.Floating("Elementwise.Convert", "x", x);
        if (x.DType == type)
        {
            return x;
        }

        if (x.Device is not CudaDevice gpu || type is not (DType.Float32 or DType.BFloat16))
        {
            throw new InvalidInputException(
                $"Elementwise.Convert rounds between Float32 and BFloat16 on a GPU, but x {x.Shape} holds {x.DType} on {x.Device.Name} and {type} was asked for: keep {x.DType}, or run it on a GPU.");
        }

        Tensor y = gpu.Empty(x.Shape, type);
        CudaArithmetic.Convert(gpu, y, x);
        if (Recording.TapeFor(x) is { } tape)
        {
            RecordConvert(tape, gpu, x, y);
        }

        return y;
    }

    private static Tensor Activate(Activation activation, Tensor x)
    {
        Require.Floating(NameOf(activation), "x", x);
        Tensor y = x.Device.Empty(x.Shape, x.DType);
        switch (x.Device)
        {
            case CpuDevice cpu:
                Forward(cpu, activation, x, y);
                break;
            case CudaDevice gpu:
                Forward(gpu, activation, x, y);
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
            if (x.Device is CudaDevice gpu)
            {
                Backward(gpu, activation, x, y.Grad!, CudaTarget.OfActivation(x));
                return;
            }

            Tensor gradient = x.GradForWrite(out bool accumulate);
            Backward((CpuDevice)x.Device, activation, x, y.Grad!, gradient, accumulate);
        });

    private static void RecordAdd(Tape tape, Tensor a, Tensor b, Tensor y)
        => tape.Record(y, () =>
        {
            Tensor outputGradient = y.Grad!;
            PassedGradient.To(a, outputGradient);
            PassedGradient.To(b, outputGradient);
        });

    private static void RecordMultiply(Tape tape, Tensor a, Tensor b, Tensor y)
        => tape.Record(y, () =>
        {
            MultiplyGradient(a, b, y.Grad!);
            MultiplyGradient(b, a, y.Grad!);
        });

    /// <summary>The gradient of <paramref name="input"/> where it was multiplied by <paramref name="factor"/>.</summary>
    private static void MultiplyGradient(Tensor input, Tensor factor, Tensor outputGradient)
    {
        if (!input.RequiresGrad)
        {
            return;
        }

        if (input.Device is CudaDevice gpu)
        {
            Product(gpu, outputGradient, factor, CudaTarget.OfActivation(input));
            return;
        }

        Tensor gradient = input.GradForWrite(out bool accumulate);
        Product((CpuDevice)input.Device, outputGradient, factor, gradient, accumulate);
    }

    private static void RecordScale(Tape tape, Tensor x, float factor, Tensor y)
        => tape.Record(y, () =>
        {
            if (x.Device is CudaDevice gpu)
            {
                Scaled(gpu, y.Grad!, factor, CudaTarget.OfActivation(x));
                return;
            }

            Tensor gradient = x.GradForWrite(out bool accumulate);
            Scaled((CpuDevice)x.Device, y.Grad!, factor, gradient, accumulate);
        });

    private static void RecordSigmoidToFloat32(Tape tape, CudaDevice gpu, Tensor x, Tensor y)
        => tape.Record(y, () => SigmoidToFloat32Gradient(gpu, x, y.Grad!, CudaTarget.OfActivation(x)));

    private static void RecordConvert(Tape tape, CudaDevice gpu, Tensor x, Tensor y)
        => tape.Record(y, () => CudaArithmetic.Convert(gpu, CudaTarget.OfActivation(x), y.Grad!.Address, x.Count, x.DType));

    private static void RecordAddRow(Tape tape, Tensor x, Tensor row, Tensor y)
        => tape.Record(y, () =>
        {
            Tensor outputGradient = y.Grad!;
            if (row.RequiresGrad && row.Device is CudaDevice gpu)
            {
                CudaColumnSums.Run(gpu, outputGradient, CudaTarget.Of(row));
            }
            else if (row.RequiresGrad)
            {
                Tensor gradient = row.GradForWrite(out bool accumulate);
                RowSums.Run((CpuDevice)row.Device, outputGradient, gradient, accumulate);
            }

            PassedGradient.To(x, outputGradient);
        });
}
