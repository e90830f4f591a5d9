using ExactFlow.Cuda;
using ExactFlow.Models.Decoding;
using ExactFlow.Models.Layers;
using ExactFlow.Tensors;
using ExactFlow.Testing;
using ExactFlow.Testing.Emulation;

namespace ExactFlow.Models.Tests.Decoding;

/// <summary>The fused pass of a token against the CPU model with the same weights, which are those that bfloat16 has.</summary>
public sealed class FusedDecodingTests
{
    private const int Steps = 12;

    /// <summary>
    /// Relative L2 distance of a token's logits. Activations round to bfloat16 (2^-9) some six times a layer on the GPU and never on the CPU; these small models
    /// with large weights amplify it, now and then by a short query or output that is scaled to unit length.
    /// </summary>
    private const double MedianTolerance = 0.02;

    /// <summary>The same for the worst token.</summary>
    private const double Tolerance = 0.15;

    public static TheoryData<string, string, int> Models
    {
        get
        {
            var data = new TheoryData<string, string, int>();
            foreach (string device in CudaTestDevices.Names)
            {
                foreach (string name in Names)
                {
                    data.Add(device, name, 3);
                }

                foreach (int batch in (int[])[1, 9, 17, 33, 70])
                {
                    data.Add(device, "efla, all options", batch);
                    data.Add(device, "gated_efla, heads of 64", batch);
                }
            }

            return data;
        }
    }

    public static TheoryData<string> Devices => [.. CudaTestDevices.Names];

    private static IEnumerable<string> Names
        =>
        [
            .. MixerKind.All.Where(mixer => mixer.Family is MixerFamily.Delta or MixerFamily.Gated).Select(mixer => mixer.Name),
            "efla, all options", "gated_efla, shared keys", "gated_efla, heads of 64", "deltanet, heads of 128", "efla, wide values",
        ];

    [Theory]
    [MemberData(nameof(Models))]
    public void Logits_are_those_of_the_model(string name, string model, int batch)
    {
        using CudaDevice device = CudaTestDevices.Open(name);
        using CpuDevice cpu = TestModels.Device();
        using (var fast = new LanguageModel(device, Config(model), precision: DType.BFloat16))
        using (var slow = new LanguageModel(cpu, Config(model)))
        using (ModelState fastState = fast.CreateState(batch))
        using (ModelState slowState = slow.CreateState(batch))
        {
            RoundMatrices(slow);
            using var decoder = new CudaDecoder(fast, fastState, SamplerOptions.Greedy);
            var errors = new List<double>();
            for (int step = 0; step < (batch > 9 ? 4 : Steps); step++)
            {
                int[] tokens = TestModels.Tokens(batch, (ulong)step + 5);
                decoder.Begin(tokens);
                decoder.Advance();
                errors.AddRange(Errors(Expected(slow, slowState, tokens), decoder.Logits.ToHost<float>()));
                Assert.Equal(Greedy(decoder.Logits.ToHost<float>(), batch), Received(decoder));
            }

            errors.Sort();
            Assert.InRange(errors[errors.Count / 2], 0, MedianTolerance);
            Assert.InRange(errors[^1], 0, Tolerance);
        }

        Assert.Equal(0, device.Pool.RentedBlocks);
    }

    [Theory]
    [MemberData(nameof(Devices))]
    public void A_replayed_graph_gives_what_queued_kernels_give(string name)
    {
        using CudaDevice device = CudaTestDevices.Open(name);
        using var model = new LanguageModel(device, Config("gated_efla, shared keys"), precision: DType.BFloat16);
        using ModelState first = model.CreateState(2);
        using ModelState second = model.CreateState(2);
        var options = new SamplerOptions { Temperature = 1.5, TopK = 9 };
        using var replaying = new CudaDecoder(model, first, options);
        replaying.Begin([3, 4]);
        int[] tokens = [3, 4];
        for (int step = 0; step < 8; step++)
        {
            replaying.Advance();

            // A new decoder queues its first step kernel by kernel.
            using var queueing = new CudaDecoder(model, second, options);
            queueing.Begin(tokens);
            queueing.Advance();
            Assert.Equal(queueing.Logits.ToHost<float>(), replaying.Logits.ToHost<float>());
            tokens = Received(replaying);
        }
    }

    [Theory]
    [MemberData(nameof(Devices))]
    public void Sequences_together_are_sequences_alone(string name)
    {
        const int Batch = 20;
        using CudaDevice device = CudaTestDevices.Open(name);
        using var model = new LanguageModel(device, Config("gated_deltanet"), precision: DType.BFloat16);
        using ModelState together = model.CreateState(Batch);
        using var decoder = new CudaDecoder(model, together, SamplerOptions.Greedy);
        int[] begin = TestModels.Tokens(Batch);
        decoder.Begin(begin);
        var drawn = new int[5][];
        for (int step = 0; step < drawn.Length; step++)
        {
            decoder.Advance();
            drawn[step] = Received(decoder);
        }

        foreach (int sequence in (int[])[0, 7, 19])
        {
            using ModelState alone = model.CreateState();
            using var single = new CudaDecoder(model, alone, SamplerOptions.Greedy);
            single.Begin([begin[sequence]]);
            for (int step = 0; step < drawn.Length; step++)
            {
                single.Advance();
                Assert.Equal(drawn[step][sequence], Received(single)[0]);
            }
        }
    }

    [Theory]
    [MemberData(nameof(Devices))]
    public void Tokens_come_in_order_while_later_ones_are_queued(string name)
    {
        using CudaDevice device = CudaTestDevices.Open(name);
        using var model = new LanguageModel(device, Config("efla"), precision: DType.BFloat16);
        using ModelState first = model.CreateState();
        using ModelState second = model.CreateState();
        using var ahead = new CudaDecoder(model, first, SamplerOptions.Greedy);
        using var waiting = new CudaDecoder(model, second, SamplerOptions.Greedy);
        ahead.Begin([5]);
        waiting.Begin([5]);
        ahead.Advance();
        ahead.Send();
        for (int step = 0; step < 6; step++)
        {
            ahead.Advance();
            ahead.Send();
            waiting.Advance();
            var token = new int[1];
            ahead.Receive(token);
            Assert.Equal(Received(waiting), token);
        }

        Assert.Throws<InvalidOperationException>(() =>
        {
            ahead.Send();
            ahead.Send();
        });
    }

    [Fact]
    public void Whatever_call_fails_nothing_is_left_behind()
    {
        var driver = new EmulatedCudaDriver();
        using CudaDevice device = CudaTestDevices.OpenEmulated(driver);
        using var model = new LanguageModel(device, Config("efla"), precision: DType.BFloat16);
        using ModelState state = model.CreateState();
        Decode();
        device.Pool.Trim();
        int before = driver.Calls.Count, outstanding = driver.Outstanding.Count, last = 0;
        Decode();
        int calls = last - before;
        for (int call = 0; call < calls; call += 1 + (call / 10))
        {
            device.Pool.Trim();
            driver.FailCall(driver.Calls.Count + call, CudaResult.LaunchFailed);
            Assert.Throws<CudaException>(Decode);
            device.Pool.Trim();
            Assert.Equal(outstanding, driver.Outstanding.Count);
        }

        Decode();

        void Decode()
        {
            using var decoder = new CudaDecoder(model, state, new SamplerOptions { RepetitionPenalty = 1.1 });
            decoder.Begin([5]);
            for (int i = 0; i < 3; i++)
            {
                decoder.Advance();
                Received(decoder);
            }

            last = driver.Calls.Count;
        }
    }

    /// <summary>The small models with depths that are multiples of eight, as the kernels want them, and some with the sizes of real ones.</summary>
    private static LanguageModelConfig Config(string name) => name switch
    {
        "gated_efla, heads of 64" => TestModels.Config("gated_efla") with { HiddenSize = 40, InnerSize = 72, KeyDim = 64, ValueDim = 64, Heads = 2, KeyHeads = 1, ConvolutionWidth = 4 },
        "deltanet, heads of 128" => TestModels.Config("deltanet") with { HiddenSize = 64, InnerSize = 16, KeyDim = 128, ValueDim = 96, Heads = 1, KeyHeads = 1, OutputGate = true, ConvolutionWidth = 4 },
        "efla, wide values" => TestModels.Config("efla") with { HiddenSize = 24, InnerSize = 40, KeyDim = 150, ValueDim = 136, Heads = 1, KeyHeads = 1 },
        _ => TestModels.Config(name) with { HiddenSize = 24, InnerSize = 296, ValueDim = 12 },
    };

    private static float[] Expected(LanguageModel model, ModelState state, int[] tokens)
    {
        using var step = model.Device.BeginStep(recordGradients: false);
        Tensor ids = model.Device.From<int>(tokens, [tokens.Length, 1]);
        return model.LastLogits(model.Forward(ids, state: state)).ToHost<float>();
    }

    private static int[] Received(CudaDecoder decoder)
    {
        var tokens = new int[decoder.Sequences];
        decoder.Send();
        decoder.Receive(tokens);
        return tokens;
    }

    private static int[] Greedy(float[] logits, int batch)
        => [.. Enumerable.Range(0, batch).Select(i => logits.AsSpan(i * TestModels.Vocabulary, TestModels.Vocabulary).IndexOf(logits.Skip(i * TestModels.Vocabulary).Take(TestModels.Vocabulary).Max()))];

    /// <summary>The error of every sequence.</summary>
    private static IEnumerable<double> Errors(float[] expected, float[] actual)
    {
        const int Width = TestModels.Vocabulary;
        for (int i = 0; i < actual.Length; i += Width)
        {
            yield return RelativeError.L2(actual.AsSpan(i, Width), Array.ConvertAll(expected[i..(i + Width)], value => (double)value));
        }
    }

    private static void RoundMatrices(LanguageModel model)
    {
        foreach (ModelParameter parameter in model.Layout.Parameters.Where(parameter => parameter.IsMatrix))
        {
            foreach (ref float value in parameter.Value.Span<float>())
            {
                value = (float)BFloat16Bits.Round(value);
            }
        }
    }
}
