using ExactFlow.Tensors.Files;
using ExactFlow.Testing;

namespace ExactFlow.Cli.Tests;

/// <summary><c>exactflow op</c> against the vectors of an independent implementation, and files that do not fit.</summary>
public sealed class OpTests
{
    private static readonly string References = Path.Combine(AppContext.BaseDirectory, "Reference");

    public static TheoryData<string, string, string> Cases
    {
        get
        {
            var cases = new TheoryData<string, string, string>();
            foreach (string file in Directory.EnumerateFiles(References, "*.safetensors").Order(StringComparer.Ordinal))
            {
                foreach (string form in new[] { "recurrent", "chunkwise", "reference" })
                {
                    cases.Add(Path.GetFileName(file), form, "float32");
                    cases.Add(Path.GetFileName(file), form, "float64");
                }
            }

            return cases;
        }
    }

    [Theory]
    [MemberData(nameof(Cases))]
    public void Every_reference_vector_is_reproduced(string name, string form, string precision)
    {
        using var folder = new TemporaryFolder();
        string path = Path.Combine(References, name);
        using SafetensorsFile expected = SafetensorsFile.Open(path);
        CliProcess.Run(folder.Path, ["op", "--rule", expected.Metadata["rule"], "--input", path, "--output", "out.safetensors", "--form", form, "--precision", precision]).ShouldSucceed();

        using SafetensorsFile actual = SafetensorsFile.Open(folder["out.safetensors"]);
        (double forward, double gradient) = precision == "float64" ? (1e-10, 1e-10) : (2e-5, 1e-4);
        AssertClose(expected, actual, forward, "output", "final_state");
        AssertClose(expected, actual, gradient, "grad_q", "grad_k", "grad_v", "grad_beta", "grad_log_decay", "grad_initial_state");
        Assert.Equal(8, actual.Count);
        Assert.All(actual.Entries, entry => Assert.Equal(precision == "float64" ? SafetensorsType.F64 : SafetensorsType.F32, entry.Type));
    }

    [Fact]
    public void Without_gradients_of_the_outputs_only_the_forward_is_written()
    {
        using var folder = new TemporaryFolder();
        Problem().Without("grad_output").Without("grad_final_state").Without("initial_state").Write(folder["in.safetensors"]);
        CliProcess.Run(folder.Path, ["op", "--input", "in.safetensors", "--output", "out.safetensors"]).ShouldSucceed();
        using SafetensorsFile actual = SafetensorsFile.Open(folder["out.safetensors"]);
        Assert.Equal(["final_state", "output"], actual.Entries.Select(entry => entry.Name).Order(StringComparer.Ordinal));
    }

    [Fact]
    public void Json_describes_what_was_done()
    {
        using var folder = new TemporaryFolder();
        Problem().Write(folder["in.safetensors"]);
        CliResult result = CliProcess.Run(folder.Path, ["op", "--input", "in.safetensors", "--output", "out.safetensors", "--json"]).ShouldSucceed();
        using var document = System.Text.Json.JsonDocument.Parse(result.Output);
        Assert.Equal("efla", document.RootElement.GetProperty("rule").GetString());
        Assert.Equal("chunkwise", document.RootElement.GetProperty("form").GetString());
        Assert.Equal(8, document.RootElement.GetProperty("tensors").GetArrayLength());
    }

    [Fact]
    public void An_unknown_rule_lists_all()
    {
        using var folder = new TemporaryFolder();
        Problem().Write(folder["in.safetensors"]);
        Refused(folder, "--rule", "eflaa").ShouldBeRefused("no delta rule 'eflaa'", "gated_deltanet", "cayley");
    }

    [Fact]
    public void A_file_without_rule_asks_for_one()
    {
        using var folder = new TemporaryFolder();
        Problem().WithMetadata("rule", null).Write(folder["in.safetensors"]);
        Refused(folder).ShouldBeRefused("does not say which rule", "--rule");
    }

    [Theory]
    [InlineData("k", "k of shape [1, 5, 2, 4], but its q and v ask for [1, 5, 2, 3]")]
    [InlineData("beta", "beta of shape [1, 5, 3], but its q and v ask for [1, 5, 2]")]
    [InlineData("initial_state", "initial_state of shape [1, 2, 3, 5], but its q and v ask for [1, 2, 3, 4]")]
    [InlineData("grad_final_state", "grad_final_state of shape [1, 2, 3, 5]")]
    public void A_tensor_that_does_not_fit_is_named_with_both_shapes(string tensor, string expected)
    {
        using var folder = new TemporaryFolder();
        Problem().WithLastExtentGrown(tensor).Write(folder["in.safetensors"]);
        Refused(folder).ShouldBeRefused(expected);
    }

    [Theory]
    [InlineData("q")]
    [InlineData("k")]
    [InlineData("v")]
    [InlineData("beta")]
    public void A_missing_tensor_is_named(string tensor)
    {
        using var folder = new TemporaryFolder();
        Problem().Without(tensor).Write(folder["in.safetensors"]);
        Refused(folder).ShouldBeRefused($"'{tensor}'");
    }

    [Fact]
    public void Values_with_other_batch_or_time_than_queries_are_refused()
    {
        using var folder = new TemporaryFolder();
        Problem().WithShape("v", 1, 6, 2, 4).Write(folder["in.safetensors"]);
        Refused(folder).ShouldBeRefused("q [1, 5, 2, 3] and v [1, 6, 2, 4]");
    }

    [Fact]
    public void Offsets_that_decrease_are_refused()
    {
        using var folder = new TemporaryFolder();
        Problem().Without("initial_state").Without("grad_final_state").WithOffsets(0, 4, 2, 5).Write(folder["in.safetensors"]);
        Refused(folder).ShouldBeRefused("cu_seqlens", "must not decrease");
    }

    [Fact]
    public void A_scale_that_is_no_number_is_refused()
    {
        using var folder = new TemporaryFolder();
        Problem().WithMetadata("scale", "small").Write(folder["in.safetensors"]);
        Refused(folder).ShouldBeRefused("scale 'small'");
    }

    [Fact]
    public void A_missing_file_is_refused()
    {
        using var folder = new TemporaryFolder();
        Refused(folder).ShouldBeRefused("in.safetensors");
    }

    [Theory]
    [InlineData(0)]
    [InlineData(7)]
    [InlineData(100)]
    [InlineData(-1)]
    public void A_truncated_file_is_refused(int length)
    {
        using var folder = new TemporaryFolder();
        Problem().Write(folder["in.safetensors"]);
        byte[] whole = File.ReadAllBytes(folder["in.safetensors"]);
        File.WriteAllBytes(folder["in.safetensors"], whole[..(length < 0 ? whole.Length + length : length)]);
        Refused(folder).ShouldBeRefused("in.safetensors");
        Assert.False(File.Exists(folder["out.safetensors"]));
    }

    [Fact]
    public void A_header_that_claims_everything_is_refused_without_taking_memory()
    {
        using var folder = new TemporaryFolder();
        File.WriteAllBytes(folder["in.safetensors"], [.. BitConverter.GetBytes(long.MaxValue), .. "{}"u8]);
        Refused(folder).ShouldBeRefused("in.safetensors");
    }

    [Fact]
    public void An_output_folder_that_does_not_exist_is_refused()
    {
        using var folder = new TemporaryFolder();
        Problem().Write(folder["in.safetensors"]);
        CliProcess.Run(folder.Path, ["op", "--input", "in.safetensors", "--output", "absent/out.safetensors"]).ShouldBeRefused("absent");
    }

    private static SafetensorsProblem Problem() => SafetensorsProblem.Small();

    private static CliResult Refused(TemporaryFolder folder, params string[] more) =>
        CliProcess.Run(folder.Path, ["op", "--input", "in.safetensors", "--output", "out.safetensors", .. more]);

    internal static void AssertClose(SafetensorsFile expected, SafetensorsFile actual, double tolerance, params string[] names)
    {
        foreach (string name in names)
        {
            double[] reference = expected.Read<double>(name);
            double[] values = actual.Read<double>(name);
            Assert.Equal(expected[name].Shape, actual[name].Shape);
            double difference = Math.Sqrt(reference.Zip(values, (a, b) => (a - b) * (a - b)).Sum());
            double norm = Math.Sqrt(reference.Sum(value => value * value));
            double error = norm == 0 ? difference : difference / norm;
            Assert.True(error <= tolerance, $"{name}: relative error {error:g3} exceeds {tolerance:g3}.");
        }
    }
}
