using ExactFlow.Cuda;
using ExactFlow.Tensors;
using ExactFlow.Testing;

namespace ExactFlow.Models.Tests.Decoding;

/// <summary>Whole generation on a GPU, reading the prompt included, for every mixer.</summary>
public sealed class GenerationOnGpuTests
{
    public static TheoryData<string, string> Float32Models => Pair([.. TestModels.Names.Select(row => row.Data)]);

    public static TheoryData<string, string> BFloat16Models => Pair(["efla", "gated_efla, shared keys", "efla, fused", "mamba2", "softmax_attention, shared keys"]);

    public static TheoryData<string> Devices => [.. CudaTestDevices.Names];

    [Theory]
    [MemberData(nameof(Float32Models))]
    public void In_float32_it_writes_what_the_CPU_writes(string name, string config)
    {
        using CudaDevice device = CudaTestDevices.Open(name);
        using CpuDevice cpu = TestModels.Device();
        int[][] prompts = [TestModels.Tokens(9, 1), TestModels.Tokens(2, 2), TestModels.Tokens(21, 3)];
        var options = new GenerationOptions { MaxTokens = 8, PrefillLength = 8, StopTokens = [4], Sampling = new SamplerOptions { Temperature = 0.7, TopK = 12, RepetitionPenalty = 1.2 } };
        using (var fast = new LanguageModel(device, Config(config)))
        using (var slow = new LanguageModel(cpu, Config(config)))
        {
            Assert.Equal(new Generator(slow).Generate(prompts, options), new Generator(fast).Generate(prompts, options));
        }

        Assert.Equal(0, device.Pool.RentedBlocks);
    }

    [Theory]
    [MemberData(nameof(BFloat16Models))]
    public void In_bfloat16_a_batch_writes_what_each_prompt_writes_alone(string name, string config)
    {
        using CudaDevice device = CudaTestDevices.Open(name);
        using (var model = new LanguageModel(device, Config(config), precision: DType.BFloat16))
        {
            var generator = new Generator(model);
            int[][] prompts = [TestModels.Tokens(3, 1), TestModels.Tokens(17, 2), TestModels.Tokens(1, 3)];
            var options = new GenerationOptions { MaxTokens = 9, Sampling = SamplerOptions.Greedy, StopTokens = [3, 8], PrefillLength = 5 };
            IReadOnlyList<IReadOnlyList<int>> together = generator.Generate(prompts, options);
            for (int i = 0; i < prompts.Length; i++)
            {
                Assert.Equal(generator.Stream(prompts[i], options), together[i]);
            }
        }

        Assert.Equal(0, device.Pool.RentedBlocks);
    }

    [Theory]
    [MemberData(nameof(Devices))]
    public void A_carried_state_continues_where_generation_stopped(string name)
    {
        using CudaDevice device = CudaTestDevices.Open(name);
        using var model = new LanguageModel(device, Config("efla, fused"), precision: DType.BFloat16);
        var generator = new Generator(model);
        var options = new GenerationOptions { MaxTokens = 6, Sampling = SamplerOptions.Greedy };
        int[] whole = [.. generator.Stream(TestModels.Tokens(5), options with { MaxTokens = 14 })];
        using ModelState state = model.CreateState();
        int[] first = [.. generator.Stream(TestModels.Tokens(5), options, state)];
        int[] second = [.. generator.Stream([first[^1]], options, state).Take(4)];
        int[] third = [.. generator.Stream([second[^1]], options with { MaxTokens = 4 }, state)];
        Assert.Equal(whole, first.Concat(second).Concat(third));
    }

    [Theory]
    [MemberData(nameof(Devices))]
    public void A_model_that_diverged_is_said_to_have(string name)
    {
        using CudaDevice device = CudaTestDevices.Open(name);
        using var model = new LanguageModel(device, Config("efla, fused"), precision: DType.BFloat16);
        model.Parameters[^1].Value.CopyFrom<float>([.. Enumerable.Repeat(float.NaN, (int)model.Parameters[^1].Value.Count)]);
        model.Parameters[^1].RefreshWorkingCopy();
        string message = Assert.Throws<InvalidInputException>(() => new Generator(model).Stream([1, 2, 3]).ToArray()).Message;
        Assert.Contains("diverged", message, StringComparison.Ordinal);
        Assert.Empty(new Generator(model).Stream([1], new GenerationOptions { MaxTokens = 0 }));
    }

    private static LanguageModelConfig Config(string name)
        => name == "efla, fused" ? TestModels.Config("efla, all options") with { HiddenSize = 24, InnerSize = 40, ValueDim = 12 } : TestModels.Config(name);

    private static TheoryData<string, string> Pair(string[] configs)
    {
        var data = new TheoryData<string, string>();
        foreach (string device in CudaTestDevices.Names)
        {
            foreach (string config in configs)
            {
                data.Add(device, config);
            }
        }

        return data;
    }
}
