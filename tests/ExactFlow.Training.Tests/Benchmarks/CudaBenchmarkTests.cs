using System.Text.Json;
using ExactFlow.Cuda;
using ExactFlow.Tensors;
using ExactFlow.Training.Benchmarks;

namespace ExactFlow.Training.Tests.Benchmarks;

/// <summary>The suites of <c>bench</c> on a GPU at sizes that an emulated one can do: that each measures what it says and gives its memory back, never how fast.</summary>
public sealed class CudaBenchmarkTests
{
    private static readonly CudaBenchmarkSizes Small = new()
    {
        Repetitions = 2,
        DeltaRule = [(1, 65, 1)],
        GeneralDeltaRule = [(1, 3, 1, 16, DType.Float32)],
        Decoding = [2],
        CacheBytes = 1 << 13,
        Model = "tiny",
        Vocabulary = 64,
        Operators = (1, 33),
        OptimizerMatrices = (2, 64, 32),
        Training = [(2, 16)],
        Generation = [1, 2],
        GenerationTokens = 2,
        GenerationWarmUp = 1,
        GenerationLate = 6,
        Rules = ["efla", "gated_efla"],
    };

    [Fact]
    public void Operators_have_bytes_operations_and_shares()
    {
        BenchmarkRun run = Measure((all, sizes) => CudaOperatorBenchmark.Run(all, sizes with { Rules = ["efla"] }), filter: "");
        Measurement[] rule = [.. run.Measurements.Where(measurement => measurement.Case == "efla 1 x 65 x 1")];
        Assert.Equal(["forward", "with backward"], rule.Select(measurement => measurement.Contender));
        Assert.All(rule, measurement => Assert.True(measurement.Bytes > 0 && measurement.CopyShare > 0 && measurement.ProductShare > 0));
        Assert.Equal((4 * 2 * 65 * 128) + (4 * 65), rule[0].Bytes);
        Assert.Equal(["copy", "forward", "with backward"], run.Measurements.Where(measurement => measurement.Case == "SwiGlu").Select(measurement => measurement.Contender));
        Assert.Contains(run.Measurements, measurement => measurement is { Case: "CrossEntropy of 64", Contender: "with backward" });
        Assert.Contains(run.Measurements, measurement => measurement is { Case: "efla 1 x 3 x 1, 16 in Float32", Contender: "with backward" });
        Assert.Contains(run.Measurements, measurement => measurement is { Case: "efla, a token of 2 sequences, 8 heads", Contender: "step" });
        Assert.Contains(run.Measurements, measurement => measurement.Case.StartsWith("AdamW", StringComparison.Ordinal));
    }

    [Fact]
    public void Products_have_three_contenders_and_those_of_decoding_read_many_weights()
    {
        Assert.Equal(["output", "input grad", "weight grad"], Measure(CudaMatrixProductBenchmark.Run, filter: "33 x 32 to 64").Measurements.Select(measurement => measurement.Contender));
        Assert.Equal(["2 weights"], Measure(CudaMatrixProductBenchmark.Run, filter: "decoding 2 x 32 to 64").Measurements.Select(measurement => measurement.Contender));
    }

    [Fact]
    public void Training_steps_have_tokens_per_second_and_memory()
    {
        BenchmarkRun run = Measure(CudaTrainingBenchmark.Run, filter: "tiny 2 x 16");
        Assert.Equal(["efla", "gated_efla"], run.Measurements.Select(measurement => measurement.Contender));
        Assert.Equal(1, run.Measurements[0].Ratio);
        Assert.All(run.Measurements, measurement => Assert.True(measurement is { Unit: "tok/s", Rate: > 0, MemoryBytes: > 0, ProductShare: > 0 }));
        using var document = JsonDocument.Parse(run.ToJson());
        Assert.Equal("cuda:0", document.RootElement.GetProperty("device").GetString());
        Assert.True(document.RootElement.GetProperty("copy_gigabytes_per_second").GetDouble() > 0);
        Assert.True(document.RootElement.GetProperty("measurements")[0].GetProperty("memory_bytes").GetInt64() > 0);
    }

    [Fact]
    public void Generation_is_timed_at_every_number_of_sequences_early_and_late()
    {
        BenchmarkRun run = Measure(CudaGenerationBenchmark.Run, filter: "");
        Assert.Equal(["efla", "efla", "first 2", "late 2", "gated_efla", "gated_efla"], run.Measurements.Select(measurement => measurement.Contender));
        Assert.All(run.Measurements, measurement => Assert.True(measurement is { Unit: "tok/s", Rate: > 0 }));
    }

    private static BenchmarkRun Measure(Action<BenchmarkRun, CudaBenchmarkSizes> suite, string filter)
    {
        using CudaDevice device = CudaTestDevices.OpenEmulated();
        var run = new BenchmarkRun(new BenchmarkOptions { Filter = filter, SecondsPerCase = 0 }, TextWriter.Null, device) { Ceilings = new CudaCeilings(1, 1) };
        suite(run, Small);
        Assert.Equal(0, device.Pool.RentedBlocks);
        return run;
    }
}
