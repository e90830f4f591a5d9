using ExactFlow.Tensors;
using ExactFlow.Tensors.MatrixProduct;
using ExactFlow.Tensors.Memory;
using ExactFlow.Tensors.Simd;

namespace ExactFlow.Operators;

public static unsafe partial class CrossEntropy
{
    /// <summary>
    /// Tokens whose logits exist at a time. Each block reads the head's weights and reads and writes their gradient, so their traffic per product falls with
    /// the block's rows; that outweighs the logits' own traffic even when they leave the last-level cache. 512 rows are enough; large vocabularies get
    /// fewer, down to 128, to keep a block at 32 MB.
    /// </summary>
    private static int BlockRows(int tokens, int vocabulary) => Math.Min(tokens, Math.Clamp((32 << 20) / sizeof(float) / vocabulary / 64 * 64, 128, 512));

    private static void CountHits(ReadOnlySpan<float> logits, ReadOnlySpan<int> targets, int ignoreIndex, Span<int> hits)
    {
        for (int row = 0; row < targets.Length; row++)
        {
            if (targets[row] == ignoreIndex)
            {
                continue;
            }

            ReadOnlySpan<float> ofRow = logits.Slice(row * hits.Length, hits.Length);
            float asked = ofRow[targets[row]];
            int larger = float.IsNaN(asked) ? 0 : targets[row];
            for (int i = 0; i < ofRow.Length && larger == targets[row]; i++)
            {
                larger = ofRow[i] < asked || (ofRow[i] == asked && i >= targets[row]) ? larger : -1;
            }

            hits[targets[row]] += larger == targets[row] && !float.IsNaN(asked) ? 1 : 0;
        }
    }

    private static void Forward(
        CpuDevice device, Tensor hidden, Tensor headWeight, Tensor targets, int ignoreIndex, int counted, Tensor loss, Tensor? hiddenGradient, Tensor? weightGradient)
    {
        int tokens = checked((int)targets.Count);
        int vocabulary = headWeight.Shape[0];
        int dim = headWeight.Shape[1];
        int blockRows = BlockRows(tokens, vocabulary);
        bool wantGradients = hiddenGradient is not null || weightGradient is not null;
        using var logitMemory = new Scratch(device, sizeof(float) * (long)blockRows * vocabulary);
        using var lossMemory = new Scratch(device, sizeof(float) * (long)blockRows);
        float* logits = logitMemory.Floats;
        double sum = 0;
        for (int first = 0; first < tokens; first += blockRows)
        {
            int rows = Math.Min(blockRows, tokens - first);
            float* states = hidden.Floats + ((long)first * dim);
            MatrixMultiply.Run(device.Workers, rows, vocabulary, dim, states, dim, false, headWeight.Floats, dim, true, logits, vocabulary, accumulate: false);
            Simd.For(device.Workers, rows, new SoftmaxRow
            {
                Logits = logits,
                Vocabulary = vocabulary,
                Targets = (int*)targets.Address + first,
                IgnoreIndex = ignoreIndex,
                Losses = lossMemory.Floats,
                GradientScale = wantGradients && counted > 0 ? 1f / counted : 0,
            });
            for (int i = 0; i < rows; i++)
            {
                sum += lossMemory.Floats[i];
            }

            if (hiddenGradient is not null)
            {
                MatrixMultiply.Run(device.Workers, rows, dim, vocabulary, logits, vocabulary, false, headWeight.Floats, dim, false, hiddenGradient.Floats + ((long)first * dim), dim, accumulate: false);
            }

            if (weightGradient is not null)
            {
                MatrixMultiply.Run(device.Workers, vocabulary, dim, rows, logits, vocabulary, true, states, dim, false, weightGradient.Floats, dim, accumulate: first > 0);
            }
        }

        loss.Floats[0] = counted > 0 ? (float)(sum / counted) : 0;
    }

    private static void TokenLosses(CpuDevice device, Tensor hidden, Tensor headWeight, Tensor targets, int ignoreIndex, Tensor losses)
    {
        int tokens = checked((int)targets.Count);
        int vocabulary = headWeight.Shape[0];
        int dim = headWeight.Shape[1];
        int blockRows = BlockRows(tokens, vocabulary);
        using var logitMemory = new Scratch(device, sizeof(float) * (long)blockRows * vocabulary);
        for (int first = 0; first < tokens; first += blockRows)
        {
            int rows = Math.Min(blockRows, tokens - first);
            MatrixMultiply.Run(
                device.Workers, rows, vocabulary, dim, hidden.Floats + ((long)first * dim), dim, false, headWeight.Floats, dim, true, logitMemory.Floats, vocabulary, accumulate: false);
            Simd.For(device.Workers, rows, new SoftmaxRow
            {
                Logits = logitMemory.Floats,
                Vocabulary = vocabulary,
                Targets = (int*)targets.Address + first,
                IgnoreIndex = ignoreIndex,
                Losses = losses.Floats + first,
            });
        }
    }

    private static void Backward(CpuDevice device, Tensor hidden, Tensor headWeight, Tensor? hiddenGradient, Tensor? weightGradient, float lossGradient)
    {
        if (hiddenGradient is not null)
        {
            AddScaled(device, hiddenGradient, lossGradient, hidden.GradForWrite(out bool accumulate), accumulate);
            hiddenGradient.Dispose();
        }

        if (weightGradient is not null)
        {
            AddScaled(device, weightGradient, lossGradient, headWeight.GradForWrite(out bool accumulate), accumulate);
            weightGradient.Dispose();
        }
    }

    private static void AddScaled(CpuDevice device, Tensor source, float factor, Tensor target, bool accumulate)
    {
        if (accumulate)
        {
            ElementwiseLoop.Run(device.Workers, source.Floats, target.Floats, target.Floats, source.Count, new AddScaledBy(factor));
        }
        else
        {
            ElementwiseLoop.Run(device.Workers, source.Floats, target.Floats, source.Count, new ScaleBy(factor));
        }
    }
}
