using ExactFlow.Cuda;
using ExactFlow.Tensors;
using ExactFlow.Tensors.Autograd;

namespace ExactFlow.Operators;

/// <summary>The direct path past a recurrence with a learned factor per head: D x of Mamba-2 (arXiv 2405.21060).</summary>
public static unsafe partial class HeadSkip
{
    /// <summary>output + weight[head] * x.</summary>
    /// <param name="output">Float32 <c>[..., heads, dim]</c>, or bfloat16 on a GPU: what the recurrence gave.</param>
    /// <param name="x">The shape and dtype of <paramref name="output"/>, what went into it.</param>
    /// <param name="weight">Float32 <c>[heads]</c>.</param>
    /// <returns>The shape and dtype of <paramref name="output"/>.</returns>
    /// <exception cref="InvalidInputException">Shapes or dtypes do not fit, or devices differ.</exception>
    public static Tensor Apply(Tensor output, Tensor x, Tensor weight)
    {
        Require.Rows("HeadSkip", "output", output, rank: 2);
        Require.SameShape("HeadSkip", "output", output, "x", x);
        Require.Float32("HeadSkip", "weight", weight);
        Require.SameDevice("HeadSkip", "output", output, "weight", weight);
        if (weight.Shape.Rank != 1 || weight.Shape[0] != output.Shape[^2])
        {
            throw new InvalidInputException(
                $"HeadSkip of output {output.Shape} needs weight of shape [{output.Shape[^2]}], one factor per head, but it has shape {weight.Shape}: check the number of heads.");
        }

        Tensor y = output.Device.Empty(output.Shape, output.DType);
        switch (output.Device)
        {
            case CpuDevice cpu:
                Forward(cpu, output, x, weight, y);
                break;
            case CudaDevice gpu:
                Forward(gpu, output, x, weight, y);
                break;
            default:
                throw Require.Implementation("HeadSkip", output.Device);
        }

        if (Recording.TapeFor(output, x, weight) is { } tape)
        {
            Record(tape, output, x, weight, y);
        }

        return y;
    }

    private static void Record(Tape tape, Tensor output, Tensor x, Tensor weight, Tensor y)
        => tape.Record(y, () =>
        {
            if (x.Device is CudaDevice gpu)
            {
                Backward(gpu, x, weight, y.Grad!, CudaTarget.OfActivation(x), CudaTarget.Of(weight));
                PassedGradient.To(output, y.Grad!);
                return;
            }

            var outputGradient = GradientTarget.Of(output);
            var inputGradient = GradientTarget.Of(x);
            var weightGradient = GradientTarget.Of(weight);
            Backward((CpuDevice)x.Device, x, weight, y.Grad!, outputGradient, inputGradient, weightGradient);
        });
}
