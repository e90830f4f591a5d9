using ExactFlow.Models.Mad;
using ExactFlow.Tensors;
using ExactFlow.Tensors.Autograd;
using ExactFlow.Tensors.Randomness;

namespace ExactFlow.Models.Tests;

/// <summary>The models of MAD: that gradients are those of the loss, that nothing sees the future, and that the decoder sees the last state and its position alone.</summary>
public sealed class MadModelTests
{
    private const int Batch = 3, Time = 9, Vocabulary = 7;

    public static TheoryData<string> Mixers => [.. MadMixer.All.Select(mixer => mixer.Name)];

    [Theory]
    [InlineData("efla", 0)]
    [InlineData("gated_deltanet", 0)]
    [InlineData("mamba2", 0)]
    [InlineData("softmax", 0)]
    [InlineData("efla", Time)]
    public void The_gradient_is_the_slope_of_the_loss(string mixer, int compressed)
    {
        using var device = new CpuDevice(1);
        using MadModel model = Model(device, mixer, compressed);
        int[] ids = Ids(1), targets = [.. Ids(2).Select((target, i) => i % 3 == 0 ? -100 : target)];

        // Everything away from its start, where much of the model is still silent.
        for (int i = 0; i < model.Parameters.Count; i++)
        {
            Move(model, i, 0.3);
        }

        float loss = Loss(model, device, ids, targets, backward: true);
        Assert.InRange(loss, 0.5, 6);
        for (int i = 0; i < model.Parameters.Count; i++)
        {
            double[] direction = Direction(i, model.Parameters[i].Value.Count);
            double slope = model.Parameters[i].Value.Grad is { } gradient ? gradient.ToHost<float>().Zip(direction, (g, d) => g * d).Sum() : 0;
            const double Step = 4e-3;
            Move(model, i, Step);
            double above = Loss(model, device, ids, targets, backward: false);
            Move(model, i, -2 * Step);
            double below = Loss(model, device, ids, targets, backward: false);
            Move(model, i, Step);

            // Losses of about 2 are good to 2e-7, so a difference over 2 x 4e-3 to 5e-5 and more; curvature adds some thousandths of steep slopes.
            Assert.Equal((above - below) / (2 * Step), slope, 5e-4 + (0.02 * Math.Abs(slope)));
        }
    }

    [Theory]
    [MemberData(nameof(Mixers))]
    public void No_token_sees_a_later_one(string mixer)
    {
        using var device = new CpuDevice(1);
        using MadModel model = Model(device, mixer, 0);
        int[] ids = Ids(1), changed = [.. ids.Select((id, i) => i % Time >= 6 ? (id + 1) % Vocabulary : id)];
        int[] early = [.. Ids(2).Select((target, i) => i % Time < 6 ? target : -100)];
        Assert.Equal(Loss(model, device, ids, early, backward: false), Loss(model, device, changed, early, backward: false));
        Assert.NotEqual(Loss(model, device, ids, Ids(2), backward: false), Loss(model, device, changed, Ids(2), backward: false));
    }

    [Fact]
    public void The_decoder_tells_positions_apart_and_reads_the_last_state()
    {
        using var device = new CpuDevice(1);
        using MadModel model = Model(device, "efla", Time);
        for (int i = 0; i < model.Parameters.Count; i++)
        {
            Move(model, i, 0.3);
        }

        int[] ids = Ids(1);
        float[] ofPositions = [.. Enumerable.Range(0, Time).Select(position => Loss(model, device, ids, [.. ids.Select((_, i) => i % Time == position ? 2 : -100)], backward: false))];
        Assert.Equal(Time, ofPositions.Distinct().Count());

        // Other sequences do not matter to a sequence; its own first token does, through the last state.
        int[] first = [.. ids.Select((_, i) => i < Time ? 2 : -100)];
        float loss = Loss(model, device, ids, first, backward: false);
        Assert.Equal(loss, Loss(model, device, [.. ids.Select((id, i) => i >= Time ? (id + 1) % Vocabulary : id)], first, backward: false));
        Assert.NotEqual(loss, Loss(model, device, [.. ids.Select((id, i) => i == 0 ? (id + 1) % Vocabulary : id)], first, backward: false));
    }

    [Fact]
    public void Sizes_are_those_of_the_benchmark()
    {
        var config = new MadModelConfig { Mixer = MadMixer.Parse("efla"), Vocabulary = 16 };
        Assert.Equal(352, config.InnerSize);
        using var device = new CpuDevice(1);
        using var model = new MadModel(device, config, 1);

        // Embedding and head; per block q, k, v, o, convolutions, step size, output norm, SwiGLU, two LayerNorms; the last LayerNorm.
        const int Block = (4 * 128 * 128) + (3 * 128 * 4) + (8 * 128) + 16 + (3 * 128 * 352) + (4 * 128);
        Assert.Equal((2 * 16 * 128) + (2 * Block) + 256, model.ParameterCount);
    }

    [Fact]
    public void What_cannot_be_split_into_heads_is_refused()
        => Assert.Contains("heads", Assert.Throws<InvalidInputException>(() => new MadModelConfig { Mixer = MadMixer.Parse("efla"), Vocabulary = 16, Heads = 7 }.Validate()).Message, StringComparison.Ordinal);

    private static MadModel Model(CpuDevice device, string mixer, int compressed)
        => new(device, new MadModelConfig { Mixer = MadMixer.Parse(mixer), Vocabulary = Vocabulary, Width = 16, Heads = 2 }, 5, compressed);

    private static int[] Ids(ulong stream) => [.. Enumerable.Range(0, Batch * Time).Select(i => new Philox(9, stream).Below((ulong)i, Vocabulary))];

    private static float Loss(MadModel model, CpuDevice device, int[] ids, int[] targets, bool backward)
    {
        using Step step = device.BeginStep(recordGradients: backward);
        Tensor loss = model.Loss(device.From<int>(ids, [Batch, Time]), device.From<int>(targets, [Batch, Time]));
        float value = loss.Item();
        if (backward)
        {
            loss.Backward();
        }

        return value;
    }

    private static double[] Direction(int parameter, long count)
    {
        var random = new Philox(4, (ulong)parameter);
        double scale = 1 / Math.Sqrt(count);
        return [.. Enumerable.Range(0, (int)count).Select(i => scale * random.Normal((ulong)i))];
    }

    private static void Move(MadModel model, int parameter, double distance)
    {
        Tensor value = model.Parameters[parameter].Value;
        double[] direction = Direction(parameter, value.Count);
        value.CopyFrom<float>([.. value.ToHost<float>().Zip(direction, (x, d) => (float)(x + (distance * d)))]);
    }
}
