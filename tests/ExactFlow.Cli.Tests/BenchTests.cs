using System.Text.Json;

namespace ExactFlow.Cli.Tests;

/// <summary><c>exactflow bench</c>: that it measures and reports, never how fast.</summary>
public sealed class BenchTests
{
    [Fact]
    public void Json_has_every_contender_with_its_ratio()
    {
        CliResult result = CliProcess.Run("bench", "matmul", "--filter", "1t 2048 x 256 to 256", "--threads", "1", "--seconds", "0.02", "--json").ShouldSucceed();
        using var document = JsonDocument.Parse(result.Output);
        JsonElement[] measurements = [.. document.RootElement.GetProperty("measurements").EnumerateArray()];
        Assert.Equal(["square 1024", "output", "input grad", "weight grad"], measurements.Select(measurement => measurement.GetProperty("contender").GetString()));
        Assert.All(measurements, measurement => Assert.True(measurement.GetProperty("rate").GetDouble() > 0));
        Assert.Equal(1, measurements[0].GetProperty("ratio").GetDouble());
        Assert.Equal("cpu", document.RootElement.GetProperty("device").GetString());
        Assert.Contains("matmul: matrix products", result.Error, StringComparison.Ordinal);
    }

    [Fact]
    public void A_filter_that_matches_nothing_is_refused() =>
        CliProcess.Run("bench", "matmul", "--filter", "nothing like it").ShouldBeRefused("No benchmark has 'nothing like it'", "--filter");

    [Fact]
    public void An_unknown_suite_is_refused_with_all() =>
        CliProcess.Run("bench", "matmull").ShouldBeRefused("op, matmul, train, generate", "did you mean matmul?");
}
