using System.Runtime.InteropServices;
using ExactFlow.Cuda;
using ExactFlow.Tensors;

namespace ExactFlow.Operators;

/// <summary>Draws tokens from logits on a GPU, and begins the residual stream of the next step with their embeddings.</summary>
internal static class DecodeSample
{
    /// <summary>What stands for a token where a logit was NaN or positive infinity.</summary>
    public const int NotANumber = -1;

    /// <summary>What stands for a token where all logits were negative infinity.</summary>
    public const int AllImpossible = -2;

    private const string Source = "decode_sample.cu";
    private const int Threads = 1024;

    /// <summary>Draws a token per sequence.</summary>
    /// <param name="device">Where everything lives.</param>
    /// <param name="options">How to draw.</param>
    /// <param name="logits">Float32 <c>[batch, vocabulary]</c>.</param>
    /// <param name="memory">Receives the tokens; random numbers used, tokens seen.</param>
    /// <param name="next">The stream that the next step begins with, or null when others look the tokens up.</param>
    public static void Run(CudaDevice device, in DecodeSampleOptions options, Tensor logits, DecodeSampleMemory memory, DecodeEmbedding? next)
        => Launch(device, "decode_sample", Embed(memory, next) with
        {
            Logits = logits.Address,
            Seen = memory.Seen?.Address ?? 0,
            SeenStride = memory.Seen?.Shape[1] * (long)sizeof(int) ?? 0,
            Weights = memory.Weights?.Address ?? 0,
            Drawn = memory.Drawn.Address,
            Seed = options.Seed,
            Stream = options.Stream,
            Temperature = options.Temperature,
            TopP = options.TopP,
            MinP = options.MinP,
            Penalty = options.RepetitionPenalty,
            TopK = options.TopK,
            Vocabulary = logits.Shape[1],
        });

    /// <summary>Begins the stream of the next step with the tokens that <paramref name="memory"/> holds.</summary>
    public static void Begin(CudaDevice device, DecodeSampleMemory memory, DecodeEmbedding next) => Launch(device, "decode_embed", Embed(memory, next));

    private static void Launch(CudaDevice device, string kernel, in Arguments arguments)
        => CudaLaunch.Run(device, Source, kernel, new LaunchGeometry(arguments.Batch, 1, 1, Threads, 1, 1, 0) { BeginsEarly = true }, arguments);

    private static Arguments Embed(DecodeSampleMemory memory, DecodeEmbedding? next)
    {
        var arguments = new Arguments { Tokens = memory.Tokens.Address, Ids = memory.Ids.Address, Batch = memory.Tokens.Shape[0] };
        return next is not { Stream: var stream } embedding ? arguments : arguments with
        {
            Embeddings = embedding.Table.Address,
            NextNorm = embedding.Norm.Address,
            Residual = stream.Residual.Address,
            NextX = stream.Scaled.Address,
            NextSquares = stream.Squares.Address,
            XStride = stream.Scaled.Shape[1],
            Hidden = stream.Residual.Shape[1],
        };
    }

    /// <summary><c>SampleArgs</c> of the kernels.</summary>
    [StructLayout(LayoutKind.Sequential)]
    private record struct Arguments
    {
        public nint Logits, Seen, Weights, Drawn, Tokens, Ids;
        public nint Embeddings, NextNorm, Residual, NextX, NextSquares;
        public long XStride, SeenStride;
        public ulong Seed, Stream;
        public double Temperature, TopP, MinP, Penalty;
        public int TopK, Vocabulary, Hidden, Batch;
    }
}

/// <summary>Where drawn tokens are looked up and go.</summary>
/// <param name="Table">Bfloat16 <c>[vocabulary, hidden]</c>.</param>
/// <param name="Norm">Weight of the norm that reads the stream first, float32 <c>[hidden]</c>.</param>
/// <param name="Stream">The residual stream.</param>
internal readonly record struct DecodeEmbedding(Tensor Table, Tensor Norm, DecodeStream Stream);

/// <summary>How tokens are drawn; see the model's sampler options.</summary>
internal readonly record struct DecodeSampleOptions
{
    /// <summary>Divides the logits; 0 takes the most likely token.</summary>
    public required double Temperature { get; init; }

    /// <summary>Keeps this many tokens; 0 keeps all.</summary>
    public required int TopK { get; init; }

    /// <summary>Keeps the smallest set with this much probability.</summary>
    public required double TopP { get; init; }

    /// <summary>Keeps tokens this likely relative to the most likely one.</summary>
    public required double MinP { get; init; }

    /// <summary>Weakens tokens seen before.</summary>
    public required double RepetitionPenalty { get; init; }

    /// <summary>Seed of the random numbers.</summary>
    public required ulong Seed { get; init; }

    /// <summary>Random stream of the first sequence; the next ones follow.</summary>
    public required ulong Stream { get; init; }
}

/// <summary>What sampling keeps on the device from token to token.</summary>
internal sealed class DecodeSampleMemory : IDisposable
{
    /// <summary>Takes the memory.</summary>
    /// <param name="device">Where to.</param>
    /// <param name="batch">Sequences.</param>
    /// <param name="vocabulary">Tokens in the vocabulary.</param>
    /// <param name="options">How tokens will be drawn.</param>
    public DecodeSampleMemory(CudaDevice device, int batch, int vocabulary, in DecodeSampleOptions options)
    {
        // 64-bit numbers, as pairs of 32-bit ones: their format matters to the kernel alone.
        try
        {
            Tokens = device.Persistent([batch], DType.Int32);
            Ids = device.Persistent([batch, 1], DType.Int32);
            Drawn = device.Persistent([batch, 2], DType.Int32);
            Weights = options.Temperature > 0 ? device.Persistent([batch, vocabulary, 2], DType.Int32) : null;
            Seen = options.RepetitionPenalty != 1 ? device.Persistent([batch, (vocabulary + 3) / 4], DType.Int32) : null;
        }
        catch
        {
            Dispose();
            throw;
        }
    }

    /// <summary>The tokens drawn last, or what was wrong with their logits, int32 <c>[batch]</c>.</summary>
    public Tensor Tokens { get; }

    /// <summary>The tokens drawn last, or 0, int32 <c>[batch, 1]</c>.</summary>
    public Tensor Ids { get; }

    /// <summary>Random numbers used up, 64 bits per sequence.</summary>
    public Tensor Drawn { get; }

    /// <summary>A weight of 64 bits for every token; null where nothing is random.</summary>
    public Tensor? Weights { get; }

    /// <summary>A byte for every token of the vocabulary, 1 for those seen, in rows of whole words; null without a penalty.</summary>
    public Tensor? Seen { get; }

    /// <inheritdoc/>
    public void Dispose()
    {
        Tokens?.Dispose();
        Ids?.Dispose();
        Drawn?.Dispose();
        Weights?.Dispose();
        Seen?.Dispose();
    }
}
