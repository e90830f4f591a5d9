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
        new("op", "operators, above all the delta rule, forward and backward, as shares of what the machine can do", run => OnDevice(run, DeltaRuleBenchmark.Run, CudaOperatorBenchmark.Run)),
        new("matmul", "matrix products of language models, as a share of a large square's rate", run => OnDevice(run, MatrixProductBenchmark.Run, CudaMatrixProductBenchmark.Run)),
        new("train", "training steps of a language model, as a share of the matrix product's rate", run => OnDevice(run, TrainingBenchmark.Run, CudaTrainingBenchmark.Run)),
        new("generate", "decoding, as a share of the memory's rate", run => OnDevice(run, GenerationBenchmark.Run, CudaGenerationBenchmark.Run)),
    ];

    private static void OnDevice(BenchmarkRun run, Action<BenchmarkRun> onCpu, Action<BenchmarkRun> onGpu) => (run.Gpu is null ? onCpu : onGpu)(run);
}
