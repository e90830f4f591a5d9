using ExactFlow.Operators;
using ExactFlow.Tensors;
using ExactFlow.Tensors.Files;
using ExactFlow.Testing;

namespace ExactFlow.Models.Tests;

/// <summary>Models whose float32 weights stay in their files.</summary>
public sealed class MappedModelTests
{
    public static TheoryData<string> Models => TestModels.Names;

    [Theory]
    [MemberData(nameof(Models))]
    public void Mapped_weights_are_those_of_the_file_and_no_copy(string name)
    {
        using var folder = new TemporaryFolder();
        using CpuDevice device = TestModels.Device();
        using var model = new LanguageModel(device, TestModels.Config(name), seed: 3);
        ModelFolder.Save(model, folder.Path, shardBytes: 4_000);
        long rented = device.Pool.RentedBytes;
        int blocks = device.Pool.RentedBlocks;
        using (LanguageModel mapped = ModelFolder.Load(device, folder.Path, mapped: true))
        {
            Assert.Equal(rented, device.Pool.RentedBytes);
            foreach ((Parameter saved, Parameter there) in model.Parameters.Zip(mapped.Parameters))
            {
                Assert.Equal(saved.Value.ToHost<float>(), there.Value.ToHost<float>());
            }

            Assert.Equal(Logits(model), Logits(mapped));
        }

        Assert.Equal(blocks, device.Pool.RentedBlocks);
    }

    [Theory]
    [InlineData(SafetensorsType.F16)]
    [InlineData(SafetensorsType.BF16)]
    public void Other_formats_are_read_all_the_same(SafetensorsType format)
    {
        using var folder = new TemporaryFolder();
        using CpuDevice device = TestModels.Device();
        using var model = new LanguageModel(device, TestModels.Config("efla"), seed: 3);
        ModelFolder.Save(model, folder.Path, format: format);
        using LanguageModel read = ModelFolder.Load(device, folder.Path), mapped = ModelFolder.Load(device, folder.Path, mapped: true);
        Assert.Equal(Logits(read), Logits(mapped));
    }

    /// <summary>Whoever changes weights changes the model's, never the file's.</summary>
    [Fact]
    public void Training_a_mapped_model_leaves_its_file_alone()
    {
        using var folder = new TemporaryFolder();
        using CpuDevice device = TestModels.Device();
        using var model = new LanguageModel(device, TestModels.Config("efla"), seed: 3);
        ModelFolder.Save(model, folder.Path);
        string path = Path.Combine(folder.Path, ModelFolder.WeightsFile);
        byte[] before = File.ReadAllBytes(path);
        using LanguageModel mapped = ModelFolder.Load(device, folder.Path, mapped: true);
        Step(model);
        Step(mapped);
        Assert.Equal(Logits(model), Logits(mapped));
        Assert.Equal(before, File.ReadAllBytes(path));
    }

    [Fact]
    public void A_mapped_folder_that_does_not_fit_leaves_nothing_behind()
    {
        using var folder = new TemporaryFolder();
        using CpuDevice device = TestModels.Device();
        using (var model = new LanguageModel(device, TestModels.Config("efla"), seed: 3))
        {
            ModelFolder.Save(model, folder.Path);
        }

        File.WriteAllText(Path.Combine(folder.Path, ModelFolder.ConfigFile), TestModels.Config("gated_efla").ToJson());
        Assert.Contains("is missing", Assert.Throws<InvalidInputException>(() => ModelFolder.Load(device, folder.Path, mapped: true)).Message, StringComparison.Ordinal);
        Assert.Equal(0, device.Pool.RentedBlocks);
    }

    private static float[] Logits(LanguageModel model)
    {
        using Tensors.Autograd.Step step = model.Device.BeginStep(recordGradients: false);
        return model.LastLogits(model.Forward(model.Device.From<int>([1, 5, 2, 9], [1, 4]))).ToHost<float>();
    }

    private static void Step(LanguageModel model)
    {
        using var optimizer = new AdamW(model.Parameters);
        using Tensors.Autograd.Step step = model.Device.BeginStep();
        model.Loss(model.Device.From<int>([1, 5, 2, 9], [1, 4]), model.Device.From<int>([5, 2, 9, 3], [1, 4])).Backward();
        optimizer.Step(1e-2f);
    }
}
