using ExactFlow.Tensors;

namespace ExactFlow.Models.Tests;

public sealed class GeneratorTests
{
    public static TheoryData<string> Mixers => TestModels.Mixers;

    [Theory]
    [MemberData(nameof(Mixers))]
    public void Greedy_generation_follows_the_full_model(string name)
    {
        using CpuDevice device = TestModels.Device();
        using var model = new LanguageModel(device, TestModels.Config(name));
        List<int> text = [.. TestModels.Tokens(10)];
        int[] generated = [.. new Generator(model).Stream(text, new GenerationOptions { MaxTokens = 20, Sampling = SamplerOptions.Greedy, PrefillLength = 4 })];
        var expected = new List<int>();
        for (int i = 0; i < 20; i++)
        {
            using var step = device.BeginStep(recordGradients: false);
            float[] logits = model.LastLogits(model.Forward(TestModels.Ids(device, [.. text]))).ToHost<float>();
            int next = Array.IndexOf(logits, logits.Max());
            expected.Add(next);
            text.Add(next);
        }

        Assert.Equal(expected, generated);
    }

    [Theory]
    [MemberData(nameof(Mixers))]
    public void A_batch_generates_what_each_prompt_generates_alone(string name)
    {
        using CpuDevice device = TestModels.Device();
        using var model = new LanguageModel(device, TestModels.Config(name));
        int[][] prompts = [TestModels.Tokens(3, 1), TestModels.Tokens(17, 2), TestModels.Tokens(1, 3)];
        var options = new GenerationOptions { MaxTokens = 25, Sampling = SamplerOptions.Greedy, StopTokens = [3, 8], PrefillLength = 5 };
        var streamed = new List<int>[] { [], [], [] };
        IReadOnlyList<IReadOnlyList<int>> together = new Generator(model).Generate(prompts, options, (sequence, token) => streamed[sequence].Add(token));
        Assert.Equal(together, streamed);
        for (int i = 0; i < prompts.Length; i++)
        {
            Assert.Equal(new Generator(model).Stream(prompts[i], options), together[i]);
        }
    }

    [Fact]
    public void Generation_ends_at_a_stop_token_or_the_limit()
    {
        using CpuDevice device = TestModels.Device();
        using var model = new LanguageModel(device, TestModels.Config("efla"));
        var generator = new Generator(model);
        int[] prompt = TestModels.Tokens(5);
        var options = new GenerationOptions { MaxTokens = 40 };
        int[] free = [.. generator.Stream(prompt, options)];
        Assert.Equal(40, free.Length);
        int stop = free[10];
        int[] stopped = [.. generator.Stream(prompt, options with { StopTokens = [stop] })];
        Assert.Equal(free[..(Array.IndexOf(free, stop) + 1)], stopped);
        Assert.Empty(generator.Stream(prompt, options with { MaxTokens = 0 }));
        Assert.Empty(generator.Generate([], options));
    }

    [Fact]
    public void A_carried_state_continues_where_generation_stopped()
    {
        using CpuDevice device = TestModels.Device();
        using var model = new LanguageModel(device, TestModels.Config("gated_efla"));
        var generator = new Generator(model);
        var options = new GenerationOptions { MaxTokens = 12, Sampling = SamplerOptions.Greedy };
        int[] whole = [.. generator.Stream(TestModels.Tokens(5), options with { MaxTokens = 24 })];
        using ModelState state = model.CreateState();
        int[] first = [.. generator.Stream(TestModels.Tokens(5), options, state)];
        int[] second = [.. generator.Stream([first[^1]], options, state)];
        Assert.Equal(whole, first.Concat(second));
    }

    [Fact]
    public void Abandoned_generation_returns_its_memory()
    {
        using CpuDevice device = TestModels.Device();
        using (var model = new LanguageModel(device, TestModels.Config("efla")))
        {
            int blocks = device.Pool.RentedBlocks;
            Assert.Equal(3, new Generator(model).Stream([1, 2]).Take(3).Count());
            Assert.Equal(blocks, device.Pool.RentedBlocks);
        }

        Assert.Equal(0, device.Pool.RentedBlocks);
    }

    [Fact]
    public void Prompts_that_cannot_be_continued_are_named()
    {
        using CpuDevice device = TestModels.Device();
        using var model = new LanguageModel(device, TestModels.Config("efla"));
        var generator = new Generator(model);
        Assert.Contains("Prompt 1", Assert.Throws<InvalidInputException>(() => generator.Generate([[1], []])).Message, StringComparison.Ordinal);
        string message = Assert.Throws<InvalidInputException>(() => generator.Stream([1, TestModels.Vocabulary])).Message;
        Assert.Contains($"token {TestModels.Vocabulary} at position 1", message, StringComparison.Ordinal);
        Assert.Throws<InvalidInputException>(() => generator.Stream([1], new GenerationOptions { MaxTokens = -1 }));
        Assert.Throws<InvalidInputException>(() => generator.Stream([1], new GenerationOptions { PrefillLength = 0 }));
    }
}
