using ExactFlow.Cuda;
using ExactFlow.Tensors;
using ExactFlow.Tensors.Autograd;

namespace ExactFlow.Operators;

public static unsafe partial class RmsNorm
{
    /// <summary>
    /// RmsNorm(x + residual) times several matrices, as in front of the layers of a model, without keeping the normalised rows: the backward pass, which needs
    /// them for the gradients of the matrices, writes them again in the pass over memory that computes the gradient of the norm. The bits are those of
    /// <see cref="ApplyAfterAdd"/>, or of <see cref="Apply"/>, followed by <see cref="Linear.ApplyAll"/>.
    /// </summary>
    /// <param name="x">Float32 (on a GPU also bfloat16) <c>[..., dim]</c>.</param>
    /// <param name="residual">Shape and format of <paramref name="x"/>, or null for the norm of x alone.</param>
    /// <param name="weight">Float32 <c>[dim]</c>.</param>
    /// <param name="matrices">Each [out, dim], in the format of <paramref name="x"/>.</param>
    /// <param name="epsilon">Added to the mean square; 0 is allowed when no row is zero.</param>
    /// <returns>The sum, or <paramref name="x"/> itself without a residual, and a tensor [..., out] for each matrix.</returns>
    /// <exception cref="InvalidInputException">Shapes do not fit, a format is not taken, or devices differ.</exception>
    public static (Tensor Sum, Tensor[] Projected) ApplyThenProject(Tensor x, Tensor? residual, Tensor weight, IReadOnlyList<Tensor> matrices, float epsilon = 1e-6f)
    {
        ArgumentNullException.ThrowIfNull(matrices);
        Require.Rows("RmsNorm", "x", x);
        Require.PerFeature("RmsNorm", "weight", weight, "x", x);
        Require.NotNegative("RmsNorm", "epsilon", epsilon);
        if (residual is not null)
        {
            Require.SameShape("RmsNorm", "x", x, "residual", residual);
        }

        Tape? tape = Recording.TapeFor(x, residual, weight) ?? matrices.Select(matrix => Recording.TapeFor(matrix)).FirstOrDefault(found => found is not null);
        Tensor sum = x;
        Tensor[] projected;
        using (Tensor normalized = x.Device.Empty(x.Shape, x.DType))
        {
            switch (x.Device)
            {
                case CpuDevice cpu:
                    // The sum is an operator of its own there.
                    sum = residual is null ? x : Elementwise.Add(x, residual);
                    Forward(cpu, sum, weight, epsilon, normalized);
                    break;
                case CudaDevice gpu:
                    sum = residual is null ? x : gpu.Empty(x.Shape, x.DType);
                    Forward("RmsNorm", gpu, x, residual, weight, 1f / x.Shape[^1], epsilon, residual is null ? null : sum, normalized);
                    break;
                default:
                    throw Require.Implementation("RmsNorm", x.Device);
            }

            projected = Linear.ComputeAll(normalized, matrices, isRecorded: tape is not null);
        }

        if (tape is not null)
        {
            bool adds = residual is not null && x.Device is CudaDevice;
            var backward = new ThenProject(x, residual, weight, [.. matrices], epsilon, sum, projected);
            tape.Record(adds ? [sum, .. projected] : projected, backward.Backward);
        }

        return (sum, projected);
    }

    /// <summary>The gradient of <see cref="ApplyThenProject"/>.</summary>
    private sealed class ThenProject(Tensor x, Tensor? residual, Tensor weight, Tensor[] matrices, float epsilon, Tensor sum, Tensor[] projected)
    {
        public void Backward()
        {
            // First the gradient of the normalised rows, then, in the same memory, these.
            using Tensor normalized = sum.Device.Empty(sum.Shape, sum.DType);
            Tensor?[] outputGradients = Array.ConvertAll(projected, projection => projection.Grad);
            bool isWritten = Array.Exists(outputGradients, gradient => gradient is not null);
            if (isWritten)
            {
                Linear.InputGradients(outputGradients, matrices, normalized, accumulate: false);
            }

            if (sum.Device is CpuDevice cpu)
            {
                RmsNorm.Backward(cpu, sum, weight, epsilon, normalized, GradientTarget.Of(sum), GradientTarget.Of(weight));
                Forward(cpu, sum, weight, epsilon, normalized);
            }
            else
            {
                Backward((CudaDevice)sum.Device, isWritten ? normalized : null);
            }

            Linear.WeightGradients(outputGradients, normalized, matrices);
        }

        /// <summary>On a GPU: from the gradient of the normalised rows, where there is one, to the rows.</summary>
        private void Backward(CudaDevice gpu, Tensor? normalized)
        {
            float share = 1f / sum.Shape[^1];
            if (residual is null)
            {
                RmsNorm.Backward("RmsNorm", gpu, x, weight, share, epsilon, normalized!, null, CudaTarget.OfActivation(x), CudaTarget.Of(weight), normalized);
                return;
            }

            Tensor? total = sum.Grad;
            if (normalized is not null)
            {
                total = x.RequiresGrad || residual.RequiresGrad ? gpu.Empty(sum.Shape, sum.DType) : null;
                CudaTarget target = total is null ? default : CudaTarget.Over(total);
                RmsNorm.Backward("RmsNorm", gpu, sum, weight, share, epsilon, normalized, sum.Grad, target, CudaTarget.Of(weight), normalized);
            }

            if (total is not null)
            {
                PassedGradient.To(x, total);
                PassedGradient.To(residual, total);
            }
        }
    }
}
