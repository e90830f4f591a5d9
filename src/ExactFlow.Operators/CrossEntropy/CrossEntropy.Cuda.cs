using System.Numerics;
using System.Runtime.InteropServices;
using ExactFlow.Cuda;
using ExactFlow.Tensors;
using ExactFlow.Tensors.Memory;

namespace ExactFlow.Operators;

public static unsafe partial class CrossEntropy
{
    private const string Source = "cross_entropy.cu";

    /// <summary>
    /// The most memory for logits, and the most tokens whose logits exist at a time. Each block of tokens reads and writes the whole gradient of the head
    /// in float32 once, which many tokens make cheap: 4,096 of a model with 32,000 words.
    /// </summary>
    private const long MaxLogitBytes = 512L << 20;

    private const int MaxBlockRows = 4096, BlockStep = 128;

    /// <summary>Logits of this size stay in the second-level cache, and launches are what blocks would cost.</summary>
    private const long FewLogitBytes = 32L << 20;

    /// <summary>Rows of at most this many logits lie within a warp.</summary>
    private const int NarrowVocabulary = 128;

    private static readonly KernelName Rows = KernelName.Of("cross_entropy_rows"), Narrow = KernelName.Of("cross_entropy_narrow");

    private static void Forward(
        CudaDevice device, Tensor hidden, Tensor headWeight, Tensor targets, int ignoreIndex, Tensor loss, Tensor? hiddenGradient, Tensor? weightGradient)
    {
        using var losses = new Scratch(device, targets.Count * sizeof(float));
        using var scale = new Scratch(device, 2 * sizeof(float));
        var arguments = new Arguments
        {
            Targets = targets.Address,
            Losses = losses.Address,
            Scale = scale.Address,
            Loss = loss.Address,
            Tokens = targets.Count,
            Vocabulary = headWeight.Shape[0],
            Ignore = ignoreIndex,
            WantsGradient = hiddenGradient is not null || weightGradient is not null ? 1 : 0,
        };
        var oneBlock = new LaunchGeometry(1, 1, 1, 1024, 1, 1, 0);
        CudaLaunch.Run(device, Source, "cross_entropy_count", oneBlock, arguments);
        TokenLosses(device, hidden, headWeight, arguments, hiddenGradient, weightGradient);
        CudaLaunch.Run(device, Source, "cross_entropy_mean", oneBlock, arguments);
    }

    private static void TokenLosses(CudaDevice device, Tensor hidden, Tensor headWeight, Tensor targets, int ignoreIndex, Tensor losses)
        => TokenLosses(
            device,
            hidden,
            headWeight,
            new Arguments { Targets = targets.Address, Losses = losses.Address, Tokens = targets.Count, Vocabulary = headWeight.Shape[0], Ignore = ignoreIndex },
            null,
            null);

    /// <summary>Hands the gradients on, times that of the loss; null when it is 1.</summary>
    private static void Backward(CudaDevice device, Tensor hidden, Tensor headWeight, Tensor? hiddenGradient, Tensor? weightGradient, Tensor? lossGradient)
    {
        if (hiddenGradient is not null)
        {
            if (hidden.TryAdoptGrad(hiddenGradient))
            {
                if (lossGradient is not null)
                {
                    Scale(device, hiddenGradient, lossGradient, hiddenGradient, accumulate: false);
                }
            }
            else
            {
                Scale(device, hiddenGradient, lossGradient, hidden.GradForWrite(out bool accumulate), accumulate);
            }

            hiddenGradient.Dispose();
        }

        if (weightGradient is not null)
        {
            Scale(device, weightGradient, lossGradient, headWeight.GradForWrite(out bool accumulate), accumulate);
            weightGradient.Dispose();
        }
    }

    /// <summary>The losses of all tokens and, where wanted, the gradients of their mean, a block of tokens after another.</summary>
    private static void TokenLosses(CudaDevice device, Tensor hidden, Tensor headWeight, Arguments arguments, Tensor? hiddenGradient, Tensor? weightGradient)
    {
        int tokens = checked((int)arguments.Tokens), vocabulary = arguments.Vocabulary, dim = headWeight.Shape[1];
        if (tokens == 0)
        {
            weightGradient?.Zero();
            return;
        }

        // Rows are padded to 32 bytes, so that pieces of them are aligned whatever the vocabulary.
        int stride = (vocabulary + 7) / 8 * 8, size = hidden.DType.Size();
        int blockRows = TokensAtATime(tokens, stride);
        using var logits = new Scratch(device, sizeof(float) * (long)blockRows * stride);
        arguments.Logits = logits.Address;
        arguments.Stride = stride;
        nint targets = arguments.Targets, losses = arguments.Losses;
        var head = new MatrixOperand(headWeight.Address, headWeight.DType, dim);
        var z = new MatrixOperand(logits.Address, DType.Float32, stride);
        var dz = new MatrixOperand(logits.Address, hidden.DType, (long)stride * sizeof(float) / size);
        for (int first = 0; first < tokens; first += blockRows)
        {
            int rows = Math.Min(blockRows, tokens - first);
            var states = new MatrixOperand(hidden.Address + (nint)((long)first * dim * size), hidden.DType, dim);
            device.Multiply(new MatrixProduct { Rows = rows, Columns = vocabulary, Depth = dim, A = states, B = head with { Transposed = true }, C = z });
            arguments.Targets = targets + ((nint)first * sizeof(int));
            arguments.Losses = losses + ((nint)first * sizeof(float));
            LossesOfRows(device, hidden.DType, arguments, rows);
            if (hiddenGradient is not null)
            {
                var dh = new MatrixOperand(hiddenGradient.Address + (nint)((long)first * dim * size), hiddenGradient.DType, dim);
                device.Multiply(new MatrixProduct { Rows = rows, Columns = dim, Depth = vocabulary, A = dz, B = head, C = dh });
            }

            if (weightGradient is not null)
            {
                var dw = new MatrixOperand(weightGradient.Address, weightGradient.DType, dim);
                device.Multiply(new MatrixProduct { Rows = vocabulary, Columns = dim, Depth = rows, A = dz with { Transposed = true }, B = states, C = dw, Accumulate = first > 0 });
            }
        }
    }

    /// <summary>Logits to losses and gradients: a block per row, or rows side by side in the threads of a warp where they are short.</summary>
    private static void LossesOfRows(CudaDevice device, DType type, Arguments arguments, int rows)
    {
        int vocabulary = arguments.Vocabulary;
        if (vocabulary > NarrowVocabulary)
        {
            int threads = Math.Clamp((vocabulary + 127) / 128 * 32, 32, 1024);
            CudaLaunch.Run(device, Source, Rows, type, new LaunchGeometry(rows, 1, 1, threads, 1, 1, 0), arguments);
            return;
        }

        const int Threads = 256;
        arguments.Rows = rows;
        arguments.Lanes = (int)BitOperations.RoundUpToPowerOf2((uint)(vocabulary + 3) / 4);
        int rowsPerBlock = Threads / arguments.Lanes;
        CudaLaunch.Run(device, Source, Narrow, type, new LaunchGeometry((rows + rowsPerBlock - 1) / rowsPerBlock, 1, 1, Threads, 1, 1, 0), arguments);
    }

    private static void CountHits(CudaDevice device, Tensor logits, Tensor targets, int ignoreIndex, Tensor hits)
    {
        const int Threads = 256, RowsPerBlock = Threads / 32;
        var arguments = new HitsArguments
        {
            Logits = logits.Address,
            Targets = targets.Address,
            Hits = hits.Address,
            Rows = targets.Count,
            Vocabulary = logits.Shape[1],
            Ignore = ignoreIndex,
        };
        if (arguments.Rows > 0)
        {
            CudaLaunch.Run(device, Source, "cross_entropy_hits", new LaunchGeometry(checked((int)((arguments.Rows + RowsPerBlock - 1) / RowsPerBlock)), 1, 1, Threads, 1, 1, 0), arguments);
        }
    }

    /// <summary>Blocks of about equal size, as few as the memory allows; all tokens at once where their logits are few.</summary>
    private static int TokensAtATime(int tokens, int stride)
    {
        if ((long)tokens * stride * sizeof(float) <= FewLogitBytes)
        {
            return tokens;
        }

        int most = (int)Math.Clamp(MaxLogitBytes / sizeof(float) / stride / BlockStep * BlockStep, BlockStep, MaxBlockRows);
        int blocks = (tokens + most - 1) / most;
        return Math.Min(tokens, ((tokens + blocks - 1) / blocks + BlockStep - 1) / BlockStep * BlockStep);
    }

    /// <summary>target = factor * source, or target += that; the factor is on the device, or null for 1.</summary>
    private static void Scale(CudaDevice device, Tensor source, Tensor? factor, Tensor target, bool accumulate)
    {
        string kernel = target.DType == DType.Float32 ? "scaled_float32" : source.DType == DType.Float32 ? "scaled_float32_to_bfloat16" : "scaled_bfloat16";
        var arguments = new ScaledArguments
        {
            Target = new CudaTarget(target.Address, accumulate),
            From = source.Address,
            Factor = factor?.Address ?? 0,
            Count = source.Count,
            Whole = (source.Address | target.Address) % 16 == 0 ? 1 : 0,
        };
        CudaLaunch.Run(device, Source, kernel, CudaLaunch.Grid(device, source.Count / (16 / source.DType.Size())), arguments);
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct Arguments
    {
        public nint Logits;
        public long Stride;
        public nint Targets, Losses, Scale, Loss;
        public long Tokens;
        public int Vocabulary, Ignore, WantsGradient, Rows, Lanes;
    }

    /// <summary><c>HitsArgs</c> of cross_entropy.cu.</summary>
    [StructLayout(LayoutKind.Sequential)]
    private struct HitsArguments
    {
        public nint Logits, Targets, Hits;
        public long Rows;
        public int Vocabulary, Ignore;
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct ScaledArguments
    {
        public CudaTarget Target;
        public nint From, Factor;
        public long Count;
        public int Whole;
    }
}
