using ExactFlow.Cuda;
using ExactFlow.Tensors;

namespace ExactFlow.Training.Tests;

/// <summary>Whole training runs on the emulated GPU, and on a real one where there is one.</summary>
public sealed class GpuTrainingTests
{
    /// <summary>Every family of mixers.</summary>
    private static readonly string[] Rules = ["efla", "gated_efla", "mamba2", "softmax_attention"];

    public static TheoryData<string, string> Runs => [.. CudaTestDevices.Names.SelectMany(_ => Rules, (device, rule) => new TheoryDataRow<string, string>(device, rule))];

    public static TheoryData<string> Devices => [.. CudaTestDevices.Names];

    [Theory]
    [MemberData(nameof(Runs))]
    public void Losses_in_float32_lie_on_those_of_the_cpu(string device, string rule) => Compare(device, rule, "float32", 1e-4);

    [Theory]
    [MemberData(nameof(Runs))]
    public void Losses_in_bfloat16_lie_within_its_noise(string device, string rule) => Compare(device, rule, "bfloat16", 2e-2);

    /// <summary>What must change nothing: operator by operator instead of a graph, less memory, a break in between.</summary>
    [Theory]
    [MemberData(nameof(Devices))]
    public void Neither_capture_nor_recomputation_nor_a_break_changes_a_bit(string device)
    {
        string[] settings = ["evaluation.every=2", "evaluation.sample_every=2", "evaluation.sample_tokens=3", "data.accumulation=2", "model.rule=gated_efla"];
        using var captured = new LanguageModelSession(CudaTestDevices.Open(device), LanguageModelSession.Options(settings)).Train();
        using var eager = new LanguageModelSession(CudaTestDevices.Open(device), LanguageModelSession.Options(settings));
        eager.Trainer.CapturesSteps = false;
        eager.Train();
        AssertSame(captured, eager);
        foreach (string level in (string[])["light", "mlp", "block"])
        {
            using var recomputed = new LanguageModelSession(CudaTestDevices.Open(device), LanguageModelSession.Options([.. settings, $"model.recompute={level}"])).Train();
            AssertSame(captured, recomputed);
            Assert.True(level == "block" || recomputed.Device.Pool.PeakRentedBytes < captured.Device.Pool.PeakRentedBytes, level);
        }

        using var folder = new TemporaryFolder();
        using (var first = new LanguageModelSession(CudaTestDevices.Open(device), LanguageModelSession.Options(settings), folder))
        {
            first.Trainer.Begin();
            first.Trainer.RunStep();
            first.Trainer.Stop();
        }

        using var resumed = new LanguageModelSession(CudaTestDevices.Open(device), LanguageModelSession.Options(settings), folder);
        resumed.Trainer.Resume("auto");
        resumed.Trainer.Run(CancellationToken.None);
        AssertSame(captured, resumed);
    }

    private static void AssertSame(LanguageModelSession expected, LanguageModelSession actual)
    {
        Assert.Equal(expected.Metrics(), actual.Metrics());
        Assert.Equal(expected.Weights(), actual.Weights());
    }

    private static void Compare(string device, string rule, string precision, double tolerance)
    {
        // Mamba-2 has two blocks where the others have one, and two heads in each.
        string[] settings = [$"model.rule={rule}", $"data.batch_size={(rule == "mamba2" ? 1 : 2)}"];
        using CudaDevice gpu = CudaTestDevices.Open(device);
        using var actual = new LanguageModelSession(gpu, LanguageModelSession.Options([.. settings, $"model.precision={precision}"])).Train();
        using var expected = new LanguageModelSession(new CpuDevice(2), LanguageModelSession.Options(settings)).Train();
        Assert.All(expected.Losses().Zip(actual.Losses()), pair => Assert.Equal(1, pair.Second / pair.First, tolerance));
        Assert.True(expected.Losses()[^1] < expected.Losses()[0] - 0.3, "The run is too short to learn anything, so it shows nothing.");
    }
}
