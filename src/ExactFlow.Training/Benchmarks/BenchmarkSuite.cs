namespace ExactFlow.Training.Benchmarks;

/// <summary>A group of benchmarks: a name to choose it by, what it measures, and the function that runs it.</summary>
/// <param name="Name">The name, as given on the command line.</param>
/// <param name="Summary">What is measured, and what ratios refer to.</param>
/// <param name="Run">Measures.</param>
public sealed record BenchmarkSuite(string Name, string Summary, Action<BenchmarkRun> Run)
{
    /// <summary>The suites of <c>exactflow bench</c>: no peers, only shares of what the machine was measured to do in the same run.</summary>
    public static IReadOnlyList<BenchmarkSuite> OfProject { get; } =
    [
        new("op", "the delta rule, forward and backward, as a share of the matrix product's rate", DeltaRuleBenchmark.Run),
        new("matmul", "matrix products of language models, as a share of a large square's rate", MatrixProductBenchmark.Run),
        new("train", "training steps of a language model, as a share of the matrix product's rate", TrainingBenchmark.Run),
        new("generate", "decoding at batch 1, as a share of the memory's read rate", GenerationBenchmark.Run),
    ];
}
