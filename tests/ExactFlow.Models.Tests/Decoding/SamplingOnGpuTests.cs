using ExactFlow.Cuda;
using ExactFlow.Operators;
using ExactFlow.Tensors;
using ExactFlow.Tensors.Randomness;
using ExactFlow.Testing;

namespace ExactFlow.Models.Tests.Decoding;

/// <summary>The GPU draws what <see cref="Sampler"/> draws from the same logits.</summary>
public sealed class SamplingOnGpuTests
{
    private const int Sequences = 3;

    public static TheoryData<string, SamplerOptions> Options
    {
        get
        {
            SamplerOptions[] options =
            [
                SamplerOptions.Greedy,
                new() { Temperature = 1 },
                new() { Temperature = 0.3, Seed = 9 },
                new() { Temperature = 2.5, MinP = 0.2 },
                new() { Temperature = 0.8, TopK = 1 },
                new() { Temperature = 0.8, TopK = 7 },
                new() { Temperature = 1.5, TopK = 100_000 },
                new() { Temperature = 1, TopP = 0.9 },
                new() { Temperature = 1, TopP = 0.01 },
                new() { Temperature = 1.2, TopK = 20, TopP = 0.7, MinP = 0.05 },
                new() { Temperature = 0, RepetitionPenalty = 1.7 },
                new() { Temperature = 1, RepetitionPenalty = 0.8, TopK = 40 },
                new() { Temperature = 1, RepetitionPenalty = 1.3, TopP = 0.8, Seed = ulong.MaxValue },
            ];
            var data = new TheoryData<string, SamplerOptions>();
            foreach (string device in CudaTestDevices.Names)
            {
                foreach (SamplerOptions option in options)
                {
                    data.Add(device, option);
                }
            }

            return data;
        }
    }

    public static TheoryData<string> Devices => [.. CudaTestDevices.Names];

    [Theory]
    [MemberData(nameof(Options))]
    public void Tokens_are_those_of_the_host(string device, SamplerOptions options)
    {
        // Smooth ones, ties, a steep one, and few tokens.
        Compare(device, options, 3001, position => 3 * Normal(position));
        Compare(device, options, 1500, position => MathF.Round((float)Normal(position)));
        Compare(device, options, 700, position => (position % 700 == 13 ? 30 : 0) + (10 * Normal(position)));
        Compare(device, options, 5, position => position % 5 == 2 ? double.NegativeInfinity : Normal(position));
        Compare(device, options, 1100, _ => -0.0);

        // Flat: most tokens remain, more than are ever sorted.
        Compare(device, options, 6000, position => 0.05 * Normal(position));
    }

    [Theory]
    [MemberData(nameof(Devices))]
    public void Impossible_logits_are_told_apart(string name)
    {
        using CudaDevice device = CudaTestDevices.Open(name);
        float[] fine = [1, 2, 3, float.NegativeInfinity];
        float[] wrong = [1, float.NaN, 3, 4];
        float[] infinite = [1, 2, float.PositiveInfinity, 4];
        float[] nothing = [.. Enumerable.Repeat(float.NegativeInfinity, 4)];
        Assert.Equal([2, DecodeSample.NotANumber, DecodeSample.NotANumber, 0], Draw(device, SamplerOptions.Greedy, [fine, wrong, infinite, nothing]));
        int[] random = Draw(device, new SamplerOptions(), [fine, wrong, infinite, nothing]);
        Assert.InRange(random[0], 0, 2);
        Assert.Equal([DecodeSample.NotANumber, DecodeSample.NotANumber, DecodeSample.AllImpossible], random[1..]);
    }

    private static double Normal(int position) => new Philox(3, 5).Normal((ulong)position);

    /// <summary>Several draws in a row from changing logits, several sequences at once.</summary>
    private static void Compare(string name, SamplerOptions options, int vocabulary, Func<int, double> logit)
    {
        using CudaDevice device = CudaTestDevices.Open(name);
        DecodeSampleOptions given = OptionsOf(options);
        using var memory = new DecodeSampleMemory(device, Sequences, vocabulary, given);
        using Tensor logits = device.Persistent([Sequences, vocabulary]);
        Sampler[] samplers = [.. Enumerable.Range(0, Sequences).Select(i => new Sampler(options, i))];
        for (int draw = 0; draw < 6; draw++)
        {
            float[] values = [.. Enumerable.Range(draw * Sequences * vocabulary, Sequences * vocabulary).Select(position => (float)logit(position))];
            logits.CopyFrom<float>(values);
            DecodeSample.Run(device, given, logits, memory, next: null);
            int[] expected = [.. samplers.Select((sampler, i) => sampler.Next(values.AsSpan(i * vocabulary, vocabulary)))];
            Assert.Equal(expected, memory.Tokens.ToHost<int>());
            Assert.Equal(expected, memory.Ids.ToHost<int>());
        }
    }

    private static int[] Draw(CudaDevice device, SamplerOptions options, float[][] rows)
    {
        DecodeSampleOptions given = OptionsOf(options);
        using var memory = new DecodeSampleMemory(device, rows.Length, rows[0].Length, given);
        using Tensor logits = device.Persistent([rows.Length, rows[0].Length]);
        logits.CopyFrom<float>([.. rows.SelectMany(row => row)]);
        DecodeSample.Run(device, given, logits, memory, next: null);
        return memory.Tokens.ToHost<int>();
    }

    private static DecodeSampleOptions OptionsOf(SamplerOptions options) => new()
    {
        Temperature = options.Temperature,
        TopK = options.TopK,
        TopP = options.TopP,
        MinP = options.MinP,
        RepetitionPenalty = options.RepetitionPenalty,
        Seed = options.Seed,
        Stream = Philox.StreamOf("sampler"),
    };
}
