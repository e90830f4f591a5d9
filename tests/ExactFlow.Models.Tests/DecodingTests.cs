using ExactFlow.Operators;
using ExactFlow.Tensors;

namespace ExactFlow.Models.Tests;

/// <summary>Reading with a carried state gives what reading everything at once gives.</summary>
public sealed class DecodingTests
{
    public static TheoryData<string> Models => TestModels.Names;

    [Theory]
    [MemberData(nameof(Models))]
    public void Prefill_and_steps_equal_one_pass(string name)
    {
        using CpuDevice device = TestModels.Device();
        using var model = new LanguageModel(device, TestModels.Config(name));
        int[] tokens = TestModels.Tokens(100);
        double[] expected = FullLogits(model, tokens);
        using ModelState state = model.CreateState();
        int position = 0;

        // Pieces shorter than the convolution, around a chunk, and single steps.
        foreach (int length in (int[])[1, 2, 65, 1, 3, 1, 1, 16, 1, 9])
        {
            using var step = device.BeginStep(recordGradients: false);
            Tensor ids = TestModels.Ids(device, tokens[position..(position + length)]);
            float[] actual = Linear.Apply(model.Forward(ids, state: state), model.Head).ToHost<float>();
            WholeModelTests.Close(expected.AsSpan(position * TestModels.Vocabulary, actual.Length), actual, 2e-5);
            position += length;
        }

        Assert.Equal(tokens.Length, position);
    }

    [Theory]
    [MemberData(nameof(Models))]
    public void Sequences_of_different_lengths_decode_together(string name)
    {
        using CpuDevice device = TestModels.Device();
        using var model = new LanguageModel(device, TestModels.Config(name));
        int[][] rows = [TestModels.Tokens(40, 1), TestModels.Tokens(40, 2), TestModels.Tokens(40, 3)];
        int[] read = [2, 31, 7];
        double[][] expected = [.. rows.Select(row => FullLogits(model, row))];
        using ModelState state = model.CreateState(3);
        using (device.BeginStep(recordGradients: false))
        {
            int[] packed = [.. rows.SelectMany((row, i) => row.Take(read[i]))];
            var offsets = new SequenceOffsets([0, 2, 33, 40]);
            Check(expected, read, model.LastLogits(model.Forward(TestModels.Ids(device, packed), offsets, state), offsets).ToHost<float>());
        }

        for (int i = 0; i < 5; i++)
        {
            using var step = device.BeginStep(recordGradients: false);
            int[][] next = [.. rows.Select((row, r) => new[] { row[read[r]] })];
            read = [.. read.Select(length => length + 1)];
            Check(expected, read, model.LastLogits(model.Forward(TestModels.Ids(device, next), state: state)).ToHost<float>());
        }

        // A packed continuation in which the second sequence has nothing to say.
        using (device.BeginStep(recordGradients: false))
        {
            int[] packed = [.. rows[0].Skip(read[0]).Take(3), .. rows[2].Skip(read[2]).Take(2)];
            model.Forward(TestModels.Ids(device, packed), new SequenceOffsets([0, 3, 3, 5]), state);
            read = [read[0] + 4, read[1] + 1, read[2] + 3];
        }

        using (device.BeginStep(recordGradients: false))
        {
            int[][] next = [.. rows.Select((row, r) => new[] { row[read[r] - 1] })];
            Check(expected, read, model.LastLogits(model.Forward(TestModels.Ids(device, next), state: state)).ToHost<float>());
        }
    }

    [Theory]
    [MemberData(nameof(Models))]
    public void A_reset_state_has_forgotten(string name)
    {
        using CpuDevice device = TestModels.Device();
        using var model = new LanguageModel(device, TestModels.Config(name));
        using ModelState state = model.CreateState();
        float[] fresh = Read(model, state, TestModels.Tokens(20, 1));
        Assert.NotEqual(fresh, Read(model, state, TestModels.Tokens(20, 1)));
        state.Reset();
        Assert.Equal(fresh, Read(model, state, TestModels.Tokens(20, 1)));
    }

    [Fact]
    public void Only_softmax_attention_keeps_more_as_it_reads_more()
    {
        using CpuDevice device = TestModels.Device();
        foreach (MixerKind mixer in MixerKind.All)
        {
            using var model = new LanguageModel(device, TestModels.Config(mixer.Name));
            using ModelState state = model.CreateState();
            long before = state.ByteCount;
            long rented = 0;
            for (int i = 0; i < 70; i++)
            {
                Read(model, state, TestModels.Tokens(10));
                rented = i == 0 ? device.Pool.RentedBytes : rented;
            }

            bool grows = mixer.Family == MixerFamily.Softmax;
            Assert.Equal(grows, state.ByteCount > before);
            Assert.Equal(grows, device.Pool.RentedBytes > rented);
        }
    }

    [Fact]
    public void A_steady_step_asks_the_system_for_no_memory()
    {
        using CpuDevice device = TestModels.Device();
        foreach (string name in (string[])["efla", "gated_efla", "mamba2"])
        {
            using var model = new LanguageModel(device, TestModels.Config(name));
            using ModelState state = model.CreateState();
            Read(model, state, [1]);
            long allocations = device.Pool.SystemAllocations;
            for (int i = 0; i < 50; i++)
            {
                Read(model, state, [i % TestModels.Vocabulary]);
            }

            Assert.Equal(allocations, device.Pool.SystemAllocations);
        }
    }

    [Fact]
    public void A_state_has_no_gradients()
    {
        using CpuDevice device = TestModels.Device();
        using var model = new LanguageModel(device, TestModels.Config("efla"));
        using ModelState state = model.CreateState();
        using var step = device.BeginStep();
        string message = Assert.Throws<InvalidInputException>(() => model.Forward(TestModels.Ids(device, [1]), state: state)).Message;
        Assert.Contains("recordGradients: false", message, StringComparison.Ordinal);
    }

    private static double[] FullLogits(LanguageModel model, int[] tokens)
    {
        using var step = model.Device.BeginStep(recordGradients: false);
        return Array.ConvertAll(TestModels.AllLogits(model, TestModels.Ids(model.Device, tokens)), value => (double)value);
    }

    private static float[] Read(LanguageModel model, ModelState state, int[] tokens)
    {
        using var step = model.Device.BeginStep(recordGradients: false);
        return model.LastLogits(model.Forward(TestModels.Ids(model.Device, tokens), state: state)).ToHost<float>();
    }

    /// <summary>Compares logits [sequences, vocabulary] with those after the tokens that each sequence has read.</summary>
    private static void Check(double[][] expected, int[] read, float[] actual)
    {
        for (int i = 0; i < expected.Length; i++)
        {
            const int Width = TestModels.Vocabulary;
            WholeModelTests.Close(expected[i].AsSpan((read[i] - 1) * Width, Width), actual.AsSpan(i * Width, Width), 2e-5);
        }
    }
}
