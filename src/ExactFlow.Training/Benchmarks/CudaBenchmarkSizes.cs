using ExactFlow.Tensors;

namespace ExactFlow.Training.Benchmarks;

/// <summary>The shapes that benchmarks on a GPU measure: those of models of 374M parameters, unless a test wants to see that they run.</summary>
internal sealed record CudaBenchmarkSizes
{
    /// <summary>Repetitions in a graph.</summary>
    public int Repetitions { get; init; } = 10;

    /// <summary>Batch, time and heads of the delta rule.</summary>
    public IReadOnlyList<(int Batch, int Time, int Heads)> DeltaRule { get; init; } = [(8, 2048, 8), (32, 2048, 8), (1, 16_384, 8), (1, 131_072, 16)];

    /// <summary>Batch, time, heads and their size for the kernels that take any size, in float32 and in bfloat16.</summary>
    public IReadOnlyList<(int Batch, int Time, int Heads, int Dim, DType Format)> GeneralDeltaRule { get; init; } =
    [
        (8, 2048, 8, 128, DType.Float32), (8, 2048, 8, 64, DType.Float32), (1, 16_384, 8, 128, DType.Float32), (8, 2048, 8, 96, DType.BFloat16), (8, 2048, 4, 256, DType.BFloat16),
    ];

    /// <summary>Sequences of one token of decoding, for the recurrence and, as rows, for products.</summary>
    public IReadOnlyList<int> Decoding { get; init; } = [1, 8, 32, 256];

    /// <summary>More than the caches hold.</summary>
    public long CacheBytes { get; init; } = 256L << 20;

    /// <summary>Rules that are compared.</summary>
    public IReadOnlyList<string> Rules { get; init; } = ["efla", "deltanet", "gated_efla"];

    /// <summary>Name of the model's size.</summary>
    public string Model { get; init; } = "340m";

    /// <summary>Vocabulary of models and of the head.</summary>
    public int Vocabulary { get; init; } = 32_000;

    /// <summary>Batch and time of the other operators.</summary>
    public (int Batch, int Time) Operators { get; init; } = (8, 2048);

    /// <summary>Matrices that the optimizer updates, each with a vector of as many numbers as it has columns.</summary>
    public (int Count, int Rows, int Columns) OptimizerMatrices { get; init; } = (96, 4096, 1024);

    /// <summary>Batch and time of training steps.</summary>
    public IReadOnlyList<(int Batch, int Time)> Training { get; init; } = [(8, 2048), (1, 16_384), (32, 2048)];

    /// <summary>Sequences that are generated together.</summary>
    public IReadOnlyList<int> Generation { get; init; } = [1, 32, 256];

    /// <summary>Tokens of each sequence whose time is taken, after <see cref="GenerationWarmUp"/> others.</summary>
    public int GenerationTokens { get; init; } = 100;

    /// <summary>Tokens before the clock starts: kernels are compiled and the step is captured.</summary>
    public int GenerationWarmUp { get; init; } = 20;

    /// <summary>Tokens after which generation is timed again.</summary>
    public int GenerationLate { get; init; } = 100_000;
}
