using System.Text.Json;

namespace ExactFlow.Cli.Tests;

/// <summary><c>exactflow doctor</c>.</summary>
public sealed class DoctorTests
{
    [Fact]
    public void The_table_names_everything_that_decides_speed()
    {
        CliResult result = CliProcess.Run("doctor").ShouldSucceed();
        Assert.All(["processor", "threads", "SIMD", "memory", "matrix product", "memory copy", "memory read", "GPU"], item => Assert.Contains($"\n{item} ", "\n" + result.Output, StringComparison.Ordinal));
        Assert.Empty(result.Error);
    }

    [Fact]
    public void Json_has_measured_rates_for_the_threads_asked_for()
    {
        CliResult result = CliProcess.Run("doctor", "--json", "--threads", "1").ShouldSucceed();
        using var document = JsonDocument.Parse(result.Output);
        JsonElement root = document.RootElement;
        Assert.Equal(1, root.GetProperty("threads").GetInt32());
        Assert.Equal(Environment.ProcessorCount, root.GetProperty("logical_processors").GetInt32());
        Assert.All(["matrix_product_gigaflops", "copy_gigabytes_per_second", "read_gigabytes_per_second"], rate => Assert.True(root.GetProperty("rates").GetProperty(rate).GetDouble() > 0));
        Assert.InRange(root.GetProperty("free_memory_bytes").GetInt64(), 1, root.GetProperty("memory_bytes").GetInt64());
    }

    [Fact]
    public void A_lowered_simd_level_is_shown_and_explained()
    {
        var environment = new Dictionary<string, string>(StringComparer.Ordinal) { ["EXACTFLOW_SIMD"] = "scalar" };
        CliResult result = CliProcess.Run(AppContext.BaseDirectory, ["doctor", "--json"], environment: environment).ShouldSucceed();
        using var document = JsonDocument.Parse(result.Output);
        Assert.Equal("scalar", document.RootElement.GetProperty("simd_level").GetString());
        Assert.Contains(document.RootElement.GetProperty("missing").EnumerateArray(), sentence => sentence.GetString()!.Contains("EXACTFLOW_SIMD", StringComparison.Ordinal));
    }

    [Fact]
    public void A_simd_level_that_does_not_exist_is_refused()
    {
        var environment = new Dictionary<string, string>(StringComparer.Ordinal) { ["EXACTFLOW_SIMD"] = "1024" };
        CliProcess.Run(AppContext.BaseDirectory, ["doctor"], environment: environment).ShouldBeRefused("EXACTFLOW_SIMD", "1024");
    }

    [Fact]
    public void A_driver_library_that_cannot_be_loaded_is_named()
    {
        var environment = new Dictionary<string, string>(StringComparer.Ordinal) { ["EXACTFLOW_CUDA_LIBRARY"] = "/absent/libcuda.so" };
        CliResult result = CliProcess.Run(AppContext.BaseDirectory, ["doctor"], environment: environment).ShouldSucceed();
        Assert.Contains("/absent/libcuda.so (from EXACTFLOW_CUDA_LIBRARY)", result.Output, StringComparison.Ordinal);
        Assert.DoesNotContain("kernel compiler", result.Output, StringComparison.Ordinal);
    }
}
