using ExactFlow.Operators;
using ExactFlow.Tensors;
using ExactFlow.Tensors.Randomness;

namespace ExactFlow.Training.Experiments.SequentialMnist;

/// <summary>
/// The classifier of the paper's robustness study (arXiv 2512.12602, section 4.3): <c>x_t = GELU(W_in pixel_t + pos_t)</c>, one head of 64 of a delta rule over
/// the 784 pixels, read out once with the last token's raw query, LayerNorm, ten classes. Float32 throughout.
/// </summary>
internal sealed class SequentialMnistModel : IDisposable
{
    /// <summary>Width, and numbers of the one head.</summary>
    public const int Width = 64;

    private const int Time = MnistSet.Pixels, Classes = MnistSet.Classes;
    private const double PositionDeviation = 0.02, RateBias = -2;

    private readonly SequentialMnistRule rule;
    private readonly Device device;
    private readonly List<Parameter> parameters = [];
    private readonly Tensor inputWeight;
    private readonly Tensor position;
    private readonly Tensor queryWeight;
    private readonly Tensor keyWeight;
    private readonly Tensor valueWeight;
    private readonly Tensor rateWeight;
    private readonly Tensor rateBias;
    private readonly Tensor normWeight;
    private readonly Tensor normBias;
    private readonly Tensor headWeight;
    private readonly Tensor headBias;

    /// <summary>Draws fresh weights: layers as PyTorch initialises them by default, projections of the head Xavier uniform.</summary>
    /// <param name="device">Where the model lives.</param>
    /// <param name="rule">Its recurrence.</param>
    /// <param name="seed">Decides the weights; every parameter has a stream of its own, so equal seeds give all rules equal weights.</param>
    public SequentialMnistModel(Device device, SequentialMnistRule rule, ulong seed)
    {
        (this.device, this.rule) = (device, rule);
        double xavier = Math.Sqrt(6.0 / (Width + Width)), fanIn = 1 / Math.Sqrt(Width);
        try
        {
            inputWeight = Uniform("input.weight", [Width, 1], 1);
            position = Add("position", [Time, Width], seed, (random, i) => PositionDeviation * random.Normal(i));
            queryWeight = Uniform("query.weight", [Width, Width], xavier);
            keyWeight = Uniform("key.weight", [Width, Width], xavier);
            valueWeight = Uniform("value.weight", [Width, Width], xavier);
            rateWeight = Uniform("rate.weight", [1, Width], fanIn);
            rateBias = Add("rate.bias", [1], seed, (_, _) => RateBias);
            normWeight = Add("norm.weight", [Width], seed, (_, _) => 1);
            normBias = Add("norm.bias", [Width], seed, (_, _) => 0);
            headWeight = Uniform("head.weight", [Classes, Width], fanIn);
            headBias = Uniform("head.bias", [Classes], fanIn);
        }
        catch
        {
            Dispose();
            throw;
        }

        Tensor Uniform(string name, Shape shape, double bound) => Add(name, shape, seed, (random, i) => random.Uniform(i, -bound, bound));
    }

    /// <summary>What is learned. All of it decays, as PyTorch's AdamW does it by default.</summary>
    public IReadOnlyList<Parameter> Parameters => parameters;

    /// <summary>
    /// Multiply-adds counted twice that a training step must do per token: three products of 64 x 64 forward and twice that backward (k and v; the rate's and the
    /// input's are left out), and the recurrence for the final state, backward three times its forward.
    /// </summary>
    public static double TrainingFlopsPerToken
        => (3 * 2 * 2.0 * Width * Width) + (4 * DeltaRuleCost.FinalStateFlops(1, 1, 1, Width, Width));

    /// <summary>The scores of the classes.</summary>
    /// <param name="pixels">Float32 <c>[batch, 784]</c>.</param>
    /// <param name="lastRows">Int32 <c>[batch]</c>: <c>i * 784 + 783</c>, where the last pixels are.</param>
    /// <param name="lastPositions">Int32 <c>[batch]</c>, all 783.</param>
    /// <returns><c>[batch, 10]</c>, of the open step.</returns>
    public Tensor Logits(Tensor pixels, Tensor lastRows, Tensor lastPositions)
    {
        int batch = pixels.Shape[0];
        Tensor column = pixels.Reshape([batch * Time, 1]);
        Tensor mapped = Linear.Apply(column, inputWeight).Reshape([batch, Time * Width]);
        Tensor hidden = Elementwise.Gelu(Elementwise.AddRow(mapped, position.Reshape([Time * Width]))).Reshape([batch, Time, Width]);
        Tensor key = Linear.Apply(hidden, keyWeight).Reshape([batch, Time, 1, Width]), value = Linear.Apply(hidden, valueWeight).Reshape([batch, Time, 1, Width]);
        Tensor score = Linear.Apply(hidden, rateWeight, rateBias);
        Tensor rate = rule.SoftplusRate ? Elementwise.Softplus(score) : Elementwise.Sigmoid(score);
        Tensor state = DeltaRule.FinalState(rule.Rule, key, value, rate, null);

        // The read-out needs the last token alone, so its x is computed by itself instead of cut out of all.
        Tensor last = Elementwise.Gelu(Elementwise.Add(Linear.Apply(Embedding.Apply(lastRows, column), inputWeight), Embedding.Apply(lastPositions, position)));
        Tensor output = ReadOut(state, Linear.Apply(last, queryWeight).Reshape([batch, 1, 1, Width]));
        return Linear.Apply(LayerNorm.Apply(output.Reshape([batch, Width]), normWeight, normBias), headWeight, headBias);
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        foreach (Parameter parameter in parameters)
        {
            parameter.Dispose();
        }
    }

    /// <summary><c>o = S^T q</c>: one token of linear attention whose key and value are zero leaves the state alone and reads it.</summary>
    private Tensor ReadOut(Tensor state, Tensor query)
    {
        Tensor zero = device.Zeros(query.Shape);
        return DeltaRule.Apply(DeltaRuleKind.Parse("linear_attention"), query, zero, zero, null, null, new DeltaRuleOptions { InitialState = state, Scale = 1 }).Output;
    }

    private Tensor Add(string name, Shape shape, ulong seed, Func<Philox, ulong, double> start)
    {
        var random = new Philox(seed, Philox.StreamOf(name));
        var values = new float[shape.Count];
        for (int i = 0; i < values.Length; i++)
        {
            values[i] = (float)start(random, (ulong)i);
        }

        var parameter = new Parameter(name, device.Persistent(shape), weightDecay: true);
        parameters.Add(parameter);
        parameter.Value.CopyFrom<float>(values);
        return parameter.Value;
    }
}
