using ExactFlow.Cuda;
using ExactFlow.Tensors;
using ExactFlow.Tensors.Autograd;

namespace ExactFlow.Operators;

/// <summary>
/// Causal depthwise convolution over time with a short filter per channel, an optional bias and SiLU, as in front of q, k and v of linear attention
/// (Mamba, arXiv 2312.00752; H3, arXiv 2212.14052).
/// </summary>
public static unsafe partial class ShortConvolution
{
    /// <summary>y[t, c] = act(bias[c] + sum_j weight[c, j] x[t - (width - 1) + j, c]); tokens before the start of a sequence are zeros, or the carried state.</summary>
    /// <param name="x">Float32 <c>[batch, time, channels]</c>, or bfloat16 on a GPU.</param>
    /// <param name="weight">Float32 <c>[channels, width]</c>; <c>weight[.., width - 1]</c> multiplies the current token.</param>
    /// <param name="bias">Float32 <c>[channels]</c>, or null.</param>
    /// <param name="silu">Whether SiLU follows.</param>
    /// <param name="state">
    /// Float32 <c>[sequences, channels, width - 1]</c>, the last inputs of each sequence, oldest first: read as the tokens before the first one and
    /// replaced by the last ones of this call. For inference: a call that records gradients refuses it.
    /// </param>
    /// <param name="offsets">Documents of a packed row (batch 1), or null when each batch entry is one sequence.</param>
    /// <returns>The shape and dtype of <paramref name="x"/>.</returns>
    /// <exception cref="InvalidInputException">Shapes or dtypes do not fit, devices differ, or a state was given while gradients are recorded.</exception>
    public static Tensor Apply(Tensor x, Tensor weight, Tensor? bias = null, bool silu = true, Tensor? state = null, SequenceOffsets? offsets = null)
        => Run(x, weight, bias, new Finish(silu), state, offsets);

    /// <summary>
    /// The same with every head of the result scaled to unit length, y / sqrt(sum(y^2) + epsilon) as <see cref="L2Norm"/> does it: queries of linear attention.
    /// One operator where the device has it in one pass (a GPU, four taps, heads of 64 or 128), two otherwise.
    /// </summary>
    /// <param name="x">Float32 <c>[batch, time, channels]</c>, or bfloat16 on a GPU.</param>
    /// <param name="weight">Float32 <c>[channels, width]</c>.</param>
    /// <param name="headDim">Channels of a head, a divisor of all channels.</param>
    /// <param name="bias">Float32 <c>[channels]</c>, or null.</param>
    /// <param name="silu">Whether SiLU comes before the norm.</param>
    /// <param name="epsilon">Added to the squared length.</param>
    /// <param name="state">As for <see cref="Apply"/>.</param>
    /// <param name="offsets">As for <see cref="Apply"/>.</param>
    /// <returns>The shape and dtype of <paramref name="x"/>.</returns>
    /// <exception cref="InvalidInputException">As <see cref="Apply"/>, or heads do not divide the channels, or epsilon is negative.</exception>
    public static Tensor ApplyNormalized(
        Tensor x, Tensor weight, int headDim, Tensor? bias = null, bool silu = true, float epsilon = 1e-6f, Tensor? state = null, SequenceOffsets? offsets = null)
    {
        Check(x, weight, bias, state, offsets);
        Require.NotNegative("ShortConvolution", "epsilon", epsilon);
        if (headDim < 1 || x.Shape[2] % headDim != 0)
        {
            throw new InvalidInputException(
                $"ShortConvolution scales heads of x {x.Shape} to unit length and needs a headDim that divides its {x.Shape[2]} channels, but it is {headDim}: correct it.");
        }

        if (x.Device is CudaDevice && NormalizesInOnePass(x, weight, headDim))
        {
            return Run(x, weight, bias, new Finish(silu, headDim, epsilon), state, offsets);
        }

        Tensor y = Run(x, weight, bias, new Finish(silu), state, offsets);
        return L2Norm.Apply(y.Reshape([x.Shape[0], x.Shape[1], x.Shape[2] / headDim, headDim]), epsilon).Reshape(x.Shape);
    }

    private static Tensor Run(Tensor x, Tensor weight, Tensor? bias, Finish finish, Tensor? state, SequenceOffsets? offsets)
    {
        Check(x, weight, bias, state, offsets);
        Tape? tape = Recording.TapeFor(x, weight, bias);
        if (tape is not null && state is not null)
        {
            throw new InvalidInputException(
                "ShortConvolution was given a carried state in a step that records gradients, and a state has none: open the step with recordGradients: false, or leave the state out.");
        }

        Tensor y = x.Device.Empty(x.Shape, x.DType);
        Tensor? documents = null;
        switch (x.Device)
        {
            case CpuDevice cpu:
                Forward(cpu, x, weight, bias, finish.Silu, state, offsets, y);
                break;
            case CudaDevice gpu:
                documents = offsets is null ? null : gpu.From(offsets.Span, [offsets.Span.Length]);
                Forward(gpu, x, weight, bias, finish, state, documents, y);
                break;
            default:
                throw Require.Implementation("ShortConvolution", x.Device);
        }

        if (tape is not null)
        {
            Record(tape, x, weight, bias, finish, offsets, documents, y);
        }

        return y;
    }

    private static void Check(Tensor x, Tensor weight, Tensor? bias, Tensor? state, SequenceOffsets? offsets)
    {
        Require.Floating("ShortConvolution", "x", x);
        Require.Float32("ShortConvolution", "weight", weight);
        if (x.Shape.Rank != 3 || x.Shape[2] == 0)
        {
            throw new InvalidInputException($"ShortConvolution needs x of shape [batch, time, channels], but it has shape {x.Shape}: reshape it.");
        }

        int channels = x.Shape[2];
        if (weight.Shape.Rank != 2 || weight.Shape[0] != channels || weight.Shape[1] == 0)
        {
            throw new InvalidInputException(
                $"ShortConvolution of x {x.Shape} needs weight of shape [{channels}, width], one filter per channel, but it has shape {weight.Shape}: check the channels.");
        }

        Require.SameDevice("ShortConvolution", "x", x, "weight", weight);
        if (bias is not null)
        {
            Require.PerFeature("ShortConvolution", "bias", bias, "x", x);
        }

        if (offsets is not null && (x.Shape[0] != 1 || offsets.TotalLength != x.Shape[1]))
        {
            throw new InvalidInputException(
                $"ShortConvolution of packed documents needs x of shape [1, {offsets.TotalLength}, channels], the total of the sequence offsets, but it has shape {x.Shape}: pack all documents into one row.");
        }

        if (state is not null)
        {
            CheckState(x, weight, state, offsets);
        }
    }

    private static void CheckState(Tensor x, Tensor weight, Tensor state, SequenceOffsets? offsets)
    {
        Require.Float32("ShortConvolution", "state", state);
        Shape expected = [offsets?.Count ?? x.Shape[0], x.Shape[2], weight.Shape[1] - 1];
        if (state.Shape != expected)
        {
            throw new InvalidInputException(
                $"ShortConvolution of x {x.Shape} with weight {weight.Shape} carries a state of shape {expected} (sequences, channels, width - 1), but it has shape {state.Shape}: make a new state.");
        }

        Require.SameDevice("ShortConvolution", "x", x, "state", state);
    }

    private static void Record(Tape tape, Tensor x, Tensor weight, Tensor? bias, Finish finish, SequenceOffsets? offsets, Tensor? documents, Tensor y)
        => tape.Record(y, () =>
        {
            if (x.Device is CudaDevice gpu)
            {
                Backward(gpu, x, weight, bias, finish, documents, y.Grad!, CudaTarget.OfActivation(x), CudaTarget.Of(weight), CudaTarget.Of(bias));
                return;
            }

            var inputGradient = GradientTarget.Of(x);
            var weightGradient = GradientTarget.Of(weight);
            var biasGradient = GradientTarget.Of(bias);
            Backward((CpuDevice)x.Device, x, weight, bias, finish.Silu, offsets, y.Grad!, inputGradient, weightGradient, biasGradient);
        });

    /// <summary>What follows the sum: SiLU, and heads scaled to unit length where a kernel does both.</summary>
    /// <param name="Silu">Whether SiLU does.</param>
    /// <param name="HeadDim">Channels of a head that is scaled, or 0.</param>
    /// <param name="Epsilon">Added to its squared length.</param>
    private readonly record struct Finish(bool Silu, int HeadDim = 0, float Epsilon = 0);
}
