using ExactFlow.Tensors;
using ExactFlow.Tensors.Autograd;

namespace ExactFlow.Operators;

/// <summary>Root-mean-square normalisation of rows, with a learned weight per feature (Zhang and Sennrich, arXiv 1910.07467, Eq. 4).</summary>
public static unsafe partial class RmsNorm
{
    /// <summary>y = x / sqrt(mean(x^2) + epsilon) * weight, each row (last dimension) on its own.</summary>
    /// <param name="x">Float32 <c>[..., dim]</c>.</param>
    /// <param name="weight">Float32 <c>[dim]</c>.</param>
    /// <param name="epsilon">Added to the mean square; 0 is allowed when no row is zero.</param>
    /// <returns>Float32, the shape of <paramref name="x"/>.</returns>
    /// <exception cref="InvalidInputException">The weight is not as long as the last dimension of x, a dtype is not float32, or devices differ.</exception>
    public static Tensor Apply(Tensor x, Tensor weight, float epsilon = 1e-6f)
    {
        Require.Rows("RmsNorm", "x", x);
        Require.PerFeature("RmsNorm", "weight", weight, "x", x);
        Require.NotNegative("RmsNorm", "epsilon", epsilon);
        Tensor y = x.Device.Empty(x.Shape);
        switch (x.Device)
        {
            case CpuDevice cpu:
                Forward(cpu, x, weight, epsilon, y);
                break;
            default:
                throw Require.Implementation("RmsNorm", x.Device);
        }

        if (Recording.TapeFor(x, weight) is { } tape)
        {
            Record(tape, x, weight, epsilon, y);
        }

        return y;
    }

    private static void Record(Tape tape, Tensor x, Tensor weight, float epsilon, Tensor y)
        => tape.Record(y, () =>
        {
            var inputGradient = GradientTarget.Of(x);
            var weightGradient = GradientTarget.Of(weight);
            Backward((CpuDevice)x.Device, x, weight, epsilon, y.Grad!, inputGradient, weightGradient);
        });
}
