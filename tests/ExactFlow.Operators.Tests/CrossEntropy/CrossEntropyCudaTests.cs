using ExactFlow.Cuda;
using ExactFlow.Tensors;
using ExactFlow.Tensors.Autograd;
using ExactFlow.Tensors.Randomness;
using ExactFlow.Testing;

namespace ExactFlow.Operators.Tests;

/// <summary>What the case table does not reach on a GPU: targets outside of the vocabulary, and the loss itself differentiated, with a working copy as head.</summary>
public sealed class CrossEntropyCudaTests
{
    public static TheoryData<string> Devices => new(CudaTestDevices.Names);

    [Theory]
    [MemberData(nameof(Devices))]
    public void A_target_outside_of_the_vocabulary_makes_its_loss_nan(string deviceName)
    {
        using CudaDevice device = CudaTestDevices.Open(deviceName);
        using Step step = device.BeginStep();
        Tensor hidden = device.Zeros([4, 3]).RequireGrad(), head = device.Zeros([5, 3]);
        float[] losses = CrossEntropy.PerToken(hidden, head, device.From<int>([0, 5, -1, CrossEntropy.DefaultIgnoreIndex], [4])).ToHost<float>();
        Assert.Equal([MathF.Log(5), float.NaN, float.NaN, 0], losses.Select(loss => MathF.Round(loss, 5)), (a, b) => a.Equals(b) || Math.Abs(a - b) < 1e-5f);

        Tensor mean = CrossEntropy.Apply(hidden, head, device.From<int>([0, 5, 1, 2], [4]));
        mean.Backward();
        Assert.True(float.IsNaN(mean.Item()));
    }

    [Theory]
    [MemberData(nameof(Devices))]
    public void Hits_are_counted_by_class_as_on_the_cpu(string deviceName)
    {
        const int Tokens = 203, Dim = 8, Vocabulary = 37;
        float[] hidden = Array.ConvertAll(Values("h", Tokens * Dim, 1), value => (float)value), head = Array.ConvertAll(Values("w", Vocabulary * Dim, 1), value => (float)value);

        // Every third row repeats a class, so that some are equal; every seventh row is NaN; targets are the best class of most rows.
        head.AsSpan(0, Dim).CopyTo(head.AsSpan(5 * Dim));
        var expected = new int[Vocabulary];
        var targets = new int[Tokens];
        for (int t = 0; t < Tokens; t++)
        {
            int best = 0;
            double largest = double.NegativeInfinity;
            for (int c = 0; c < Vocabulary; c++)
            {
                double logit = Enumerable.Range(0, Dim).Sum(i => (double)hidden[(t * Dim) + i] * head[(c * Dim) + i]);
                (best, largest) = logit > largest + 1e-4 ? (c, logit) : (best, largest);
            }

            targets[t] = t % 5 == 4 ? (best + 1) % Vocabulary : t % 11 == 10 ? CrossEntropy.DefaultIgnoreIndex : best;
            if (t % 7 == 6)
            {
                hidden[t * Dim] = float.NaN;
            }
            else if (targets[t] == best)
            {
                expected[best]++;
            }
        }

        using CudaDevice gpu = CudaTestDevices.Open(deviceName);
        using var cpu = new CpuDevice(1);
        foreach (Device device in (Device[])[gpu, cpu])
        {
            using Tensor hits = device.Persistent([Vocabulary], DType.Int32);
            for (int pass = 1; pass <= 2; pass++)
            {
                using Step step = device.BeginStep(recordGradients: false);
                CrossEntropy.CountHits(device.From<float>(hidden, [Tokens, Dim]), device.From<float>(head, [Vocabulary, Dim]), device.From<int>(targets, [Tokens]), hits);
                Assert.Equal(expected.Select(count => pass * count), hits.ToHost<int>());
            }

            using Step recorded = device.BeginStep();
            Assert.Contains("recordGradients: false", Assert.Throws<InvalidInputException>(() => CrossEntropy.CountHits(
                device.From<float>(hidden, [Tokens, Dim]), device.From<float>(head, [Vocabulary, Dim]), device.From<int>(targets, [Tokens]), hits)).Message, StringComparison.Ordinal);
        }
    }

    [Theory]
    [MemberData(nameof(Devices))]
    public void The_loss_itself_is_differentiated_and_gradients_of_steps_add_up(string deviceName)
    {
        const int Tokens = 33, Dim = 24, Vocabulary = 101;
        using CudaDevice device = CudaTestDevices.Open(deviceName);
        double[] hidden = Values("h", Tokens * Dim, 1), head = Values("w", Vocabulary * Dim, 0.2);
        double[] targets = [.. Enumerable.Range(0, Tokens).Select(i => i % 4 == 3 ? CrossEntropy.DefaultIgnoreIndex : i * 3 % (double)Vocabulary)];
        (double[] gradHidden, double[] gradHead) = CrossEntropy.ReferenceGradient(hidden, head, targets, Dim, 1);
        using Tensor master = device.Persistent([Vocabulary, Dim]).RequireGrad();
        using Tensor copy = master.WorkingCopy(DType.BFloat16);
        copy.CopyFrom<ushort>(Array.ConvertAll(head, value => BFloat16Bits.FromSingle((float)value)));
        for (int pass = 1; pass <= 2; pass++)
        {
            using Step step = device.BeginStep();
            Tensor states = device.From<ushort>(Array.ConvertAll(hidden, value => BFloat16Bits.FromSingle((float)value)), [Tokens, Dim]).RequireGrad();
            Tensor loss = CrossEntropy.Apply(states, copy, device.From<int>(Array.ConvertAll(targets, value => (int)value), [Tokens]));
            loss.Backward();

            // Logits are float32 whatever the operands; their gradient is rounded to bfloat16 (2^-8 at most) for the products, dh once more.
            Close([CrossEntropy.Reference(hidden, head, targets, Dim)], loss.ToHost<float>(), 2e-6);
            Close(gradHidden, Array.ConvertAll(states.Grad!.ToHost<ushort>(), BFloat16Bits.ToSingle), 2.0 / 256);
            int times = pass;
            Close([.. gradHead.Select(value => times * value)], master.Grad!.ToHost<float>(), 1.0 / 256);
        }
    }

    private static void Close(double[] expected, float[] actual, double tolerance)
    {
        double error = RelativeError.L2(actual, expected);
        Assert.True(error <= tolerance, $"Relative L2 error {error:e2} is above {tolerance:e1}.");
    }

    private static double[] Values(string name, int count, double deviation)
    {
        var random = new Philox(8, Philox.StreamOf(name));
        var values = new double[count];
        for (int i = 0; i < count; i++)
        {
            values[i] = BFloat16Bits.Round(deviation * random.Normal((ulong)i));
        }

        return values;
    }
}
