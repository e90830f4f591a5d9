using ExactFlow.Cuda;
using ExactFlow.Tensors;
using ExactFlow.Tensors.Autograd;

namespace ExactFlow.Operators;

/// <summary>
/// The language-model loss fused with the output head: mean over tokens of -log softmax(h W^T)[target].
/// Logits are made for a block of tokens at a time, once; the full [tokens, vocabulary] matrix never exists.
/// </summary>
public static partial class CrossEntropy
{
    /// <summary>Targets with this value take no part in the loss, unless another is given.</summary>
    public const int DefaultIgnoreIndex = -100;

    /// <summary>The mean loss in nats over all targets that are not ignored; 0 when all are. Records gradients for both matrices.</summary>
    /// <remarks>When gradients are recorded they are computed here, in the pass that makes the logits; backward only scales them.</remarks>
    /// <param name="hidden">Float32 [..., dim], the states before the head; on a GPU also bfloat16.</param>
    /// <param name="headWeight">[vocabulary, dim], in the format of <paramref name="hidden"/>.</param>
    /// <param name="targets">Int32, one token id per row of <paramref name="hidden"/>. Outside of the vocabulary it is an error on the CPU, and makes the loss NaN on a GPU, which is not waited for.</param>
    /// <param name="ignoreIndex">The target value that is left out.</param>
    /// <returns>A float32 scalar of the open step.</returns>
    /// <exception cref="InvalidInputException">Shapes, dtypes or devices do not fit, a target is outside the vocabulary, or the device has no form of the operator.</exception>
    public static Tensor Apply(Tensor hidden, Tensor headWeight, Tensor targets, int ignoreIndex = DefaultIgnoreIndex)
    {
        Device device = Validate(hidden, headWeight, targets);
        int counted = device is CpuDevice ? CountTargets(targets.Span<int>(), headWeight.Shape[0], ignoreIndex) : 0;
        Tensor loss = device.Empty([]);
        Tape? tape = Recording.TapeFor(hidden, headWeight);
        Tensor? hiddenGradient = tape is not null && hidden.RequiresGrad ? device.Empty(hidden.Shape, hidden.DType) : null;
        Tensor? weightGradient = tape is not null && headWeight.RequiresGrad ? device.Empty(headWeight.Shape) : null;
        switch (device)
        {
            case CpuDevice cpu:
                Forward(cpu, hidden, headWeight, targets, ignoreIndex, counted, loss, hiddenGradient, weightGradient);
                tape?.Record(loss, () => Backward(cpu, hidden, headWeight, hiddenGradient, weightGradient, loss.Grad!.Item()));
                break;
            case CudaDevice gpu:
                Forward(gpu, hidden, headWeight, targets, ignoreIndex, loss, hiddenGradient, weightGradient);
                tape?.Record(loss, () => Backward(gpu, hidden, headWeight, hiddenGradient, weightGradient, loss.GradIsOne ? null : loss.Grad));
                break;
            default:
                throw Require.Implementation(nameof(CrossEntropy), device);
        }

        return loss;
    }

    /// <summary>The loss of every token in nats, for evaluation; 0 where the target is ignored. Records nothing.</summary>
    /// <param name="hidden">Float32 [..., dim], the states before the head; on a GPU also bfloat16.</param>
    /// <param name="headWeight">[vocabulary, dim], in the format of <paramref name="hidden"/>.</param>
    /// <param name="targets">Int32, one token id per row of <paramref name="hidden"/>; outside of the vocabulary as in <see cref="Apply"/>.</param>
    /// <param name="ignoreIndex">The target value whose loss is 0.</param>
    /// <returns>Float32 of the shape of <paramref name="targets"/>, a tensor of the open step.</returns>
    /// <exception cref="InvalidInputException">Shapes, dtypes or devices do not fit, a target is outside the vocabulary, or the device has no form of the operator.</exception>
    public static Tensor PerToken(Tensor hidden, Tensor headWeight, Tensor targets, int ignoreIndex = DefaultIgnoreIndex)
    {
        Device device = Validate(hidden, headWeight, targets);
        Tensor losses = device.Empty(targets.Shape);
        switch (device)
        {
            case CpuDevice cpu:
                CountTargets(targets.Span<int>(), headWeight.Shape[0], ignoreIndex);
                TokenLosses(cpu, hidden, headWeight, targets, ignoreIndex, losses);
                break;
            case CudaDevice gpu:
                TokenLosses(gpu, hidden, headWeight, targets, ignoreIndex, losses);
                break;
            default:
                throw Require.Implementation(nameof(CrossEntropy), device);
        }

        return losses;
    }

    /// <summary>
    /// Counts, by class, the targets that have the largest logit of all (the first of equal ones): the numerators of accuracy and of recall. Records nothing.
    /// </summary>
    /// <param name="hidden">Float32 [..., dim], the states before the head; on a GPU also bfloat16.</param>
    /// <param name="headWeight">[vocabulary, dim], in the format of <paramref name="hidden"/>.</param>
    /// <param name="targets">Int32, one token id per row of <paramref name="hidden"/>.</param>
    /// <param name="hits">Int32 [vocabulary]: each class's count is raised by its hits.</param>
    /// <param name="ignoreIndex">The target value that is left out.</param>
    /// <exception cref="InvalidInputException">Shapes, dtypes or devices do not fit, or the device has no form of the operator.</exception>
    public static void CountHits(Tensor hidden, Tensor headWeight, Tensor targets, Tensor hits, int ignoreIndex = DefaultIgnoreIndex)
    {
        Device device = Validate(hidden, headWeight, targets);
        Require.Int32(nameof(CrossEntropy), nameof(hits), hits);
        Require.SameDevice(nameof(CrossEntropy), nameof(hidden), hidden, nameof(hits), hits);
        if (hits.Shape.Rank != 1 || hits.Shape[0] != headWeight.Shape[0])
        {
            throw new InvalidInputException($"CrossEntropy counts hits in [vocabulary] of headWeight {headWeight.Shape}, but hits is {hits.Shape}.");
        }

        if (device.CurrentStep is { RecordsGradients: true })
        {
            throw new InvalidInputException("CrossEntropy was to count hits, which have no gradient, in a step that records gradients; open the step with recordGradients: false.");
        }

        Tensor logits = Linear.Apply(hidden.Reshape([checked((int)targets.Count), headWeight.Shape[1]]), headWeight, outputType: DType.Float32);
        switch (device)
        {
            case CpuDevice:
                CountTargets(targets.Span<int>(), headWeight.Shape[0], ignoreIndex);
                CountHits(logits.Span<float>(), targets.Span<int>(), ignoreIndex, hits.Span<int>());
                break;
            case CudaDevice gpu:
                CountHits(gpu, logits, targets, ignoreIndex, hits);
                break;
            default:
                throw Require.Implementation(nameof(CrossEntropy), device);
        }

        logits.Dispose();
    }

    private static Device Validate(Tensor hidden, Tensor headWeight, Tensor targets)
    {
        ArgumentNullException.ThrowIfNull(hidden);
        Device device = hidden.Device;
        Require.Floating(nameof(CrossEntropy), nameof(hidden), hidden);
        Require.Floating(nameof(CrossEntropy), nameof(headWeight), headWeight);
        Require.SameType(nameof(CrossEntropy), nameof(hidden), hidden, nameof(headWeight), headWeight);
        Require.SameDevice(nameof(CrossEntropy), nameof(hidden), hidden, nameof(headWeight), headWeight);
        Require.Int32(nameof(CrossEntropy), nameof(targets), targets);
        Require.SameDevice(nameof(CrossEntropy), nameof(hidden), hidden, nameof(targets), targets);
        if (headWeight.Shape.Rank != 2 || hidden.Shape.Rank < 1 || hidden.Shape[^1] != headWeight.Shape[1] || headWeight.Shape[0] == 0)
        {
            throw new InvalidInputException(
                $"CrossEntropy expects hidden [..., dim] and headWeight [vocabulary, dim] with the same `dim`, but hidden is {hidden.Shape} and headWeight is {headWeight.Shape}.");
        }

        if (targets.Count != hidden.Shape.RowCount())
        {
            throw new InvalidInputException($"CrossEntropy expects one target per row of hidden {hidden.Shape}, but targets is {targets.Shape}.");
        }

        return device;
    }

    private static int CountTargets(ReadOnlySpan<int> targets, int vocabulary, int ignoreIndex)
    {
        int counted = 0;
        for (int i = 0; i < targets.Length; i++)
        {
            if (targets[i] == ignoreIndex)
            {
                continue;
            }

            if ((uint)targets[i] >= (uint)vocabulary)
            {
                throw new InvalidInputException(
                    $"CrossEntropy expects targets in [0, {vocabulary}) or {ignoreIndex} (ignored), but target {i} is {targets[i]}; check that text and model use the same tokenizer.");
            }

            counted++;
        }

        return counted;
    }
}
