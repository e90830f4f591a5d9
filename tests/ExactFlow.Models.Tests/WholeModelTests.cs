using ExactFlow.Models.Layers;
using ExactFlow.Operators;
using ExactFlow.Tensors;

namespace ExactFlow.Models.Tests;

/// <summary>Whole models against a float64 model written from the equations, and what must hold for every mixer.</summary>
public sealed class WholeModelTests
{
    public static TheoryData<string> Models => TestModels.Names;

    [Theory]
    [MemberData(nameof(Models))]
    public void Logits_equal_the_reference(string name)
    {
        using CpuDevice device = TestModels.Device();
        using var model = new LanguageModel(device, TestModels.Config(name));
        var reference = new ReferenceModel(model);
        foreach (int length in (int[])[1, 3, 65, 100])
        {
            int[] tokens = TestModels.Tokens(length);
            double[] expected = [.. reference.Logits(tokens).SelectMany(row => row)];
            using var step = device.BeginStep();
            Close(expected, TestModels.AllLogits(model, TestModels.Ids(device, tokens)), 2e-5);
        }
    }

    [Theory]
    [MemberData(nameof(Models))]
    public void Gradients_equal_the_slopes_of_the_reference(string name)
    {
        using CpuDevice device = TestModels.Device();
        using var model = new LanguageModel(device, TestModels.Config(name));
        var reference = new ReferenceModel(model);
        int[][] ids = [TestModels.Tokens(11, 1), TestModels.Tokens(11, 2)];
        int[][] targets = [TestModels.Tokens(11, 3), TestModels.Tokens(11, 4)];
        targets[1][5] = CrossEntropy.DefaultIgnoreIndex;
        using (device.BeginStep())
        {
            Tensor loss = model.Loss(TestModels.Ids(device, ids), TestModels.Ids(device, targets));
            Assert.Equal(reference.Loss(ids, targets), loss.Item(), 1e-5);
            loss.Backward();
            foreach (ModelParameter parameter in model.Layout.Parameters)
            {
                CheckGradient(parameter, reference, () => reference.Loss(ids, targets));
            }
        }
    }

    [Theory]
    [MemberData(nameof(Models))]
    public void A_token_changes_nothing_before_it(string name)
    {
        using CpuDevice device = TestModels.Device();
        using var model = new LanguageModel(device, TestModels.Config(name));
        int[] tokens = TestModels.Tokens(70);
        using var step = device.BeginStep();
        float[] before = TestModels.AllLogits(model, TestModels.Ids(device, tokens));
        const int Changed = 66;
        tokens[Changed] = (tokens[Changed] + 1) % TestModels.Vocabulary;
        float[] after = TestModels.AllLogits(model, TestModels.Ids(device, tokens));
        const int Boundary = Changed * TestModels.Vocabulary;
        Assert.Equal(before.AsSpan(0, Boundary), after.AsSpan(0, Boundary));
        Assert.NotEqual(before[Boundary..], after[Boundary..]);
    }

    [Theory]
    [MemberData(nameof(Models))]
    public void Packed_documents_do_not_see_each_other(string name)
    {
        using CpuDevice device = TestModels.Device();
        using var model = new LanguageModel(device, TestModels.Config(name));
        int[][] documents = [TestModels.Tokens(5, 1), TestModels.Tokens(1, 2), TestModels.Tokens(67, 3), TestModels.Tokens(2, 4)];
        int[] row = [.. documents.SelectMany(document => document)];
        using var step = device.BeginStep();
        float[] packed = TestModels.AllLogits(model, TestModels.Ids(device, row), new SequenceOffsets([0, 5, 6, 73, 75]));
        float[] separate = [.. documents.SelectMany(document => TestModels.AllLogits(model, TestModels.Ids(device, document)))];
        Close(Array.ConvertAll(separate, value => (double)value), packed, 2e-5);
    }

    [Theory]
    [MemberData(nameof(Models))]
    public void Rows_of_a_batch_do_not_see_each_other(string name)
    {
        using CpuDevice device = TestModels.Device();
        using var model = new LanguageModel(device, TestModels.Config(name));
        int[][] rows = [TestModels.Tokens(33, 1), TestModels.Tokens(33, 2), TestModels.Tokens(33, 3)];
        using var step = device.BeginStep();
        float[] together = TestModels.AllLogits(model, TestModels.Ids(device, rows));
        float[] separate = [.. rows.SelectMany(row => TestModels.AllLogits(model, TestModels.Ids(device, row)))];
        Close(Array.ConvertAll(separate, value => (double)value), together, 2e-5);
    }

    [Fact]
    public void Models_that_differ_in_the_rule_start_with_the_same_weights()
    {
        using CpuDevice device = TestModels.Device();
        var shared = new Dictionary<string, float[]>();
        int compared = 0;
        foreach (MixerKind mixer in MixerKind.All)
        {
            using var model = new LanguageModel(device, ModelPresets.Create("tiny", mixer, 100));
            foreach (Parameter parameter in model.Parameters)
            {
                string key = parameter.Name.Replace("backbone.", "model.", StringComparison.Ordinal) + parameter.Value.Shape;
                float[] values = parameter.Value.ToHost<float>();
                if (shared.TryGetValue(key, out float[]? first))
                {
                    compared += key.Contains("A_log", StringComparison.Ordinal) ? 0 : 1;
                    Assert.True(first.AsSpan().SequenceEqual(values), $"{mixer}: {key}");
                }
                else
                {
                    shared.Add(key, values);
                }
            }
        }

        Assert.True(compared > 250, $"only {compared} parameters were shared");
    }

    [Fact]
    public void Initial_weights_have_the_distributions_of_the_method()
    {
        using CpuDevice device = TestModels.Device();
        using var model = new LanguageModel(device, LanguageModelConfig.Create(MixerKind.Parse("gated_efla"), 500, 64, 1, 64) with { Heads = 4096, KeyHeads = 64, KeyDim = 1, ValueDim = 1 });
        var values = model.Parameters.ToDictionary(parameter => parameter.Name, parameter => parameter.Value.ToHost<float>());
        float[] table = values["model.embeddings.weight"];
        Assert.InRange(table.Average(), -0.0005, 0.0005);
        Assert.InRange(Math.Sqrt(table.Average(value => (double)value * value)), 0.0198, 0.0202);
        Assert.All(values["model.norm.weight"], value => Assert.Equal(1, value));
        double[] rates = Array.ConvertAll(values["model.layers.0.attn.A_log"], value => Math.Exp(value));
        Assert.InRange(rates.Min(), 0, 0.02);
        Assert.InRange(rates.Average(), 7.7, 8.3);
        Assert.InRange(rates.Max(), 15.98, 16);
        double[] steps = Array.ConvertAll(values["model.layers.0.attn.dt_bias"], value => Math.Log(1 + Math.Exp(value)));
        Assert.InRange(steps.Min(), 0.000999, 0.00101);
        Assert.InRange(steps.Average(Math.Log), Math.Log(0.01) - 0.06, Math.Log(0.01) + 0.06);
        Assert.InRange(steps.Max(), 0.099, 0.10001);
        Assert.DoesNotContain(model.Parameters, parameter => parameter.WeightDecay && (parameter.Name.Contains("A_log", StringComparison.Ordinal) || parameter.Name.Contains("norm", StringComparison.Ordinal) || parameter.Name.EndsWith("bias", StringComparison.Ordinal)));
    }

    [Theory]
    [MemberData(nameof(Models))]
    public void All_memory_comes_back(string name)
    {
        using CpuDevice device = TestModels.Device();
        using (var model = new LanguageModel(device, TestModels.Config(name)))
        using (ModelState state = model.CreateState(2))
        {
            int[][] rows = [TestModels.Tokens(9, 1), TestModels.Tokens(9, 2)];
            using (device.BeginStep())
            {
                model.Loss(TestModels.Ids(device, rows), TestModels.Ids(device, rows)).Backward();
            }

            using (device.BeginStep(recordGradients: false))
            {
                model.Forward(TestModels.Ids(device, rows), state: state);
            }

            Assert.True(state.ByteCount > 0);
            Assert.True(device.Pool.RentedBlocks > 0);
        }

        Assert.Equal(0, device.Pool.RentedBlocks);
    }

    [Theory]
    [MemberData(nameof(Models))]
    public void A_steady_training_step_allocates_little(string name)
    {
        using CpuDevice device = TestModels.Device();
        using var model = new LanguageModel(device, TestModels.Config(name) with { Layers = 4 });
        int[] tokens = TestModels.Tokens(70);
        var rows = new int[][] { tokens };
        long systemAllocations = 0;
        long managed = 0;
        for (int i = 0; i < 5; i++)
        {
            systemAllocations = device.Pool.SystemAllocations;
            using var step = device.BeginStep();
            Tensor ids = TestModels.Ids(device, rows);
            managed = GC.GetAllocatedBytesForCurrentThread();
            model.Loss(ids, ids).Backward();
            managed = GC.GetAllocatedBytesForCurrentThread() - managed;
            foreach (Parameter parameter in model.Parameters)
            {
                parameter.Value.ClearGrad();
            }
        }

        Assert.Equal(systemAllocations, device.Pool.SystemAllocations);
        Assert.True(managed < 64 * 1024, $"{name}: {managed:N0} bytes");
    }

    [Fact]
    public void Wrong_inputs_are_named()
    {
        using CpuDevice device = TestModels.Device();
        using var model = new LanguageModel(device, TestModels.Config("efla"));
        using ModelState two = model.CreateState(2);
        using var step = device.BeginStep();
        Tensor ids = TestModels.Ids(device, TestModels.Tokens(4));
        Assert.Contains("[batch, time]", Assert.Throws<InvalidInputException>(() => model.Forward(ids.Reshape([4]))).Message, StringComparison.Ordinal);
        Assert.Contains("[1, 5]", Assert.Throws<InvalidInputException>(() => model.Forward(ids, new SequenceOffsets([0, 5]))).Message, StringComparison.Ordinal);
        Assert.Contains("CreateState(1)", Assert.Throws<InvalidInputException>(() => model.Forward(ids, state: two)).Message, StringComparison.Ordinal);
        Assert.Contains("targets", Assert.Throws<InvalidInputException>(() => model.Loss(ids, ids.Reshape([2, 2]))).Message, StringComparison.Ordinal);
        Assert.Throws<InvalidInputException>(() => model.Forward(TestModels.Ids(device, [TestModels.Vocabulary])));
        Assert.Throws<InvalidInputException>(() => model.Forward(TestModels.Ids(device, [-1])));
    }

    private static void CheckGradient(ModelParameter parameter, ReferenceModel reference, Func<double> loss)
    {
        float[] gradient = parameter.Value.Grad?.ToHost<float>() ?? throw new InvalidOperationException($"{parameter.Name} has no gradient.");
        double[] weights = reference.Weights[parameter.Name];
        double norm = Math.Sqrt(gradient.Sum(value => (double)value * value));
        Assert.True(norm > 1e-6, $"{parameter.Name} has a gradient of {norm}: it does not matter, so nothing is tested.");
        foreach (int i in Sample(gradient))
        {
            double kept = weights[i];
            const double Step = 1e-5;
            weights[i] = kept + Step;
            double above = loss();
            weights[i] = kept - Step;
            double below = loss();
            weights[i] = kept;
            double slope = (above - below) / (2 * Step);
            double tolerance = 1e-8 + (5e-5 * (norm + Math.Abs(slope)));
            Assert.True(Math.Abs(slope - gradient[i]) <= tolerance, $"{parameter.Name}[{i}]: gradient {gradient[i]}, slope {slope}, norm {norm}");
        }
    }

    /// <summary>The largest element, the first, the last and two between.</summary>
    private static IEnumerable<int> Sample(float[] gradient)
    {
        int largest = 0;
        for (int i = 0; i < gradient.Length; i++)
        {
            largest = Math.Abs(gradient[i]) > Math.Abs(gradient[largest]) ? i : largest;
        }

        return new[] { largest, 0, gradient.Length - 1, gradient.Length / 3, gradient.Length * 2 / 3 }.Distinct();
    }

    internal static void Close(ReadOnlySpan<double> expected, ReadOnlySpan<float> actual, double tolerance)
    {
        Assert.Equal(expected.Length, actual.Length);
        double error = 0;
        double size = 0;
        for (int i = 0; i < expected.Length; i++)
        {
            error += (expected[i] - actual[i]) * (expected[i] - actual[i]);
            size += expected[i] * expected[i];
        }

        Assert.True(Math.Sqrt(error) <= tolerance * Math.Sqrt(size), $"relative error {Math.Sqrt(error / size):E2} above {tolerance:E1}");
    }
}
