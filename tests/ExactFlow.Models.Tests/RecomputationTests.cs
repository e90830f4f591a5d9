using ExactFlow.Tensors;
using ExactFlow.Tensors.Autograd;

namespace ExactFlow.Models.Tests;

/// <summary>Gradients do not depend on what is kept and what is computed again; memory does.</summary>
public sealed class RecomputationTests
{
    public static TheoryData<string, Recomputation> Cases => [.. TestModels.Names.SelectMany(
        name => Enum.GetValues<Recomputation>().Skip(1), (name, level) => new TheoryDataRow<string, Recomputation>(name.Data, level))];

    [Theory]
    [MemberData(nameof(Cases))]
    public void Gradients_are_the_same_bits(string name, Recomputation level)
    {
        using CpuDevice device = TestModels.Device();
        using var model = new LanguageModel(device, TestModels.Config(name));
        (float loss, float[][] expected) = Gradients(model);
        foreach (int blocks in (int[])[0, 1])
        {
            model.Recompute(level, blocks);
            (float again, float[][] actual) = Gradients(model);
            Assert.Equal(loss, again);
            Assert.Equal(expected, actual);
        }
    }

    [Theory]
    [InlineData("efla")]
    [InlineData("gated_efla")]
    [InlineData("mamba2")]
    public void Each_level_takes_less_memory(string name)
    {
        LanguageModelConfig config = LanguageModelConfig.Create(MixerKind.Parse(name), TestModels.Vocabulary, 64, 6, 4);
        using CpuDevice device = TestModels.Device();
        using var model = new LanguageModel(device, config);
        long last = long.MaxValue;
        foreach (Recomputation level in Enum.GetValues<Recomputation>().Where(level => name != "mamba2" || level != Recomputation.Mlp))
        {
            model.Recompute(level);
            device.Pool.ResetPeak();
            long before = device.Pool.RentedBytes;
            Gradients(model, length: 128);
            long peak = device.Pool.PeakRentedBytes - before;
            Assert.True(peak < 0.8 * last, $"{level}: {peak} bytes after {last}");
            last = peak;
        }
    }

    [Theory]
    [InlineData("efla")]
    [InlineData("mamba2")]
    [InlineData("softmax_attention")]
    public void Without_gradients_memory_does_not_grow_with_the_blocks(string name)
    {
        long[] peaks = [.. ((int[])[2, 6]).Select(layers =>
        {
            using CpuDevice device = TestModels.Device();
            using var model = new LanguageModel(device, LanguageModelConfig.Create(MixerKind.Parse(name), TestModels.Vocabulary, 64, layers, 4));
            device.Pool.ResetPeak();
            long before = device.Pool.RentedBytes;
            using Step step = device.BeginStep(recordGradients: false);
            model.Forward(TestModels.Ids(device, TestModels.Tokens(128)));
            return device.Pool.PeakRentedBytes - before;
        })];
        Assert.Equal(peaks[0], peaks[1]);
    }

    private static (float Loss, float[][] Gradients) Gradients(LanguageModel model, int length = 70)
    {
        foreach (var parameter in model.Parameters)
        {
            parameter.Value.ClearGrad();
        }

        using Step step = model.Device.BeginStep();
        step.ReleasesBehindBackward = true;
        Tensor ids = TestModels.Ids(model.Device, TestModels.Tokens(length, 1), TestModels.Tokens(length, 2));
        Tensor targets = TestModels.Ids(model.Device, TestModels.Tokens(length, 3), TestModels.Tokens(length, 4));
        Tensor loss = model.Loss(ids, targets);
        float value = loss.Item();
        loss.Backward();
        return (value, [.. model.Parameters.Select(parameter => parameter.Value.Grad!.ToHost<float>())]);
    }
}
