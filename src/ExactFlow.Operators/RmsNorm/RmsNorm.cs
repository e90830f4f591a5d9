using ExactFlow.Cuda;
using ExactFlow.Tensors;
using ExactFlow.Tensors.Autograd;

namespace ExactFlow.Operators;

/// <summary>Root-mean-square normalisation of rows, with a learned weight per feature (Zhang and Sennrich, arXiv 1910.07467, Eq. 4).</summary>
public static unsafe partial class RmsNorm
{
    /// <summary>y = x / sqrt(mean(x^2) + epsilon) * weight, each row (last dimension) on its own.</summary>
    /// <param name="x">Float32 (on a GPU also bfloat16) <c>[..., dim]</c>.</param>
    /// <param name="weight">Float32 <c>[dim]</c>.</param>
    /// <param name="epsilon">Added to the mean square; 0 is allowed when no row is zero.</param>
    /// <returns>Shape and format of <paramref name="x"/>.</returns>
    /// <exception cref="InvalidInputException">The weight is not as long as the last dimension of x, a format is not taken, or devices differ.</exception>
    public static Tensor Apply(Tensor x, Tensor weight, float epsilon = 1e-6f)
    {
        Require.Rows("RmsNorm", "x", x);
        Require.PerFeature("RmsNorm", "weight", weight, "x", x);
        Require.NotNegative("RmsNorm", "epsilon", epsilon);
        Tensor y = x.Device.Empty(x.Shape, x.DType);
        switch (x.Device)
        {
            case CpuDevice cpu:
                Forward(cpu, x, weight, epsilon, y);
                break;
            case CudaDevice gpu:
                Forward("RmsNorm", gpu, x, null, weight, 1f / x.Shape[^1], epsilon, null, y);
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

    /// <summary>
    /// Sum = x + residual and Normalized = RmsNorm(Sum), as between the halves of a residual block. On a GPU in one pass over memory, forward and backward;
    /// the sum is rounded to the format of the tensors before it is normalised.
    /// </summary>
    /// <param name="x">Float32 (on a GPU also bfloat16) <c>[..., dim]</c>.</param>
    /// <param name="residual">Shape and format of <paramref name="x"/>.</param>
    /// <param name="weight">Float32 <c>[dim]</c>.</param>
    /// <param name="epsilon">Added to the mean square; 0 is allowed when no row is zero.</param>
    /// <returns>Both in the shape and format of <paramref name="x"/>.</returns>
    /// <exception cref="InvalidInputException">Shapes do not fit, a format is not taken, or devices differ.</exception>
    public static (Tensor Sum, Tensor Normalized) ApplyAfterAdd(Tensor x, Tensor residual, Tensor weight, float epsilon = 1e-6f)
    {
        Require.Rows("RmsNorm", "x", x);
        Require.SameShape("RmsNorm", "x", x, "residual", residual);
        Require.PerFeature("RmsNorm", "weight", weight, "x", x);
        Require.NotNegative("RmsNorm", "epsilon", epsilon);
        if (x.Device is not CudaDevice gpu)
        {
            Tensor added = Elementwise.Add(x, residual);
            return (added, Apply(added, weight, epsilon));
        }

        Tensor sum = gpu.Empty(x.Shape, x.DType);
        Tensor normalized = gpu.Empty(x.Shape, x.DType);
        Forward("RmsNorm", gpu, x, residual, weight, 1f / x.Shape[^1], epsilon, sum, normalized);
        if (Recording.TapeFor(x, residual, weight) is { } tape)
        {
            tape.Record(sum, normalized, new AfterAdd(x, residual, weight, epsilon, sum, normalized).Backward);
        }

        return (sum, normalized);
    }

    private static void Record(Tape tape, Tensor x, Tensor weight, float epsilon, Tensor y)
        => tape.Record(y, () =>
        {
            switch (x.Device)
            {
                case CudaDevice gpu:
                    Backward("RmsNorm", gpu, x, weight, 1f / x.Shape[^1], epsilon, y.Grad!, null, CudaTarget.OfActivation(x), CudaTarget.Of(weight));
                    break;
                default:
                    Backward((CpuDevice)x.Device, x, weight, epsilon, y.Grad!, GradientTarget.Of(x), GradientTarget.Of(weight));
                    break;
            }
        });

    /// <summary>The gradient of <see cref="ApplyAfterAdd"/> on a GPU: that of the sum is the gradient of both its terms, and lies in memory once.</summary>
    private sealed class AfterAdd(Tensor x, Tensor residual, Tensor weight, float epsilon, Tensor sum, Tensor normalized)
    {
        public void Backward()
        {
            var gpu = (CudaDevice)sum.Device;
            if (normalized.Grad is not { } outputGradient)
            {
                PassedGradient.To(x, sum.Grad!);
                PassedGradient.To(residual, sum.Grad!);
                return;
            }

            bool wantsSum = x.RequiresGrad || residual.RequiresGrad;
            Tensor? total = wantsSum ? gpu.Empty(sum.Shape, sum.DType) : null;
            CudaTarget target = total is null ? default : CudaTarget.Over(total);
            RmsNorm.Backward("RmsNorm", gpu, sum, weight, 1f / sum.Shape[^1], epsilon, outputGradient, sum.Grad, target, CudaTarget.Of(weight));
            if (total is not null)
            {
                PassedGradient.To(x, total);
                PassedGradient.To(residual, total);
                total.Dispose();
            }
        }
    }
}
