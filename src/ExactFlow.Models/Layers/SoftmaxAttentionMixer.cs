using ExactFlow.Operators;
using ExactFlow.Tensors;

namespace ExactFlow.Models.Layers;

/// <summary>Causal softmax attention with rotary positions: the Transformer baseline. Decoding keeps a key/value cache that grows with the length.</summary>
public sealed class SoftmaxAttentionMixer : Mixer
{
    private readonly LanguageModelConfig config;
    private readonly ModelParameter query;
    private readonly ModelParameter key;
    private readonly ModelParameter value;
    private readonly ModelParameter output;

    internal SoftmaxAttentionMixer(LanguageModelConfig config, ParameterLayout layout, string prefix)
    {
        this.config = config;
        Initializer normal = Initializers.Normal(config.InitializerRange);
        query = layout.Add(prefix + "q_proj.weight", [config.Heads * config.KeyDim, config.HiddenSize], normal);
        key = layout.Add(prefix + "k_proj.weight", [config.KeyHeads * config.KeyDim, config.HiddenSize], normal);
        value = layout.Add(prefix + "v_proj.weight", [config.KeyHeads * config.ValueDim, config.HiddenSize], normal);
        output = layout.Add(prefix + "o_proj.weight", [config.HiddenSize, config.Heads * config.ValueDim], normal);
    }

    /// <inheritdoc/>
    public override Tensor Forward(LayerInput x, SequenceOffsets? offsets, MixerState? state, bool recompute = false)
    {
        ArgumentNullException.ThrowIfNull(x);
        Tensor?[] projected = x.Project(query, key, value);
        x.Dispose();
        int batch = projected[0]!.Shape[0];
        int time = projected[0]!.Shape[1];
        Tensor q = projected[0]!.Reshape([batch, time, config.Heads, config.KeyDim]);
        Tensor k = projected[1]!.Reshape([batch, time, config.KeyHeads, config.KeyDim]);
        Tensor v = projected[2]!.Reshape([batch, time, config.KeyHeads, config.ValueDim]);
        Tensor o = state is null
            ? SoftmaxAttention.Apply(Rotate(q, 0, offsets), Rotate(k, 0, offsets), v, offsets: offsets)
            : Continue(q, k, v, offsets, (AttentionCache)state);
        return Linear.Apply(o.Reshape([batch, time, config.Heads * config.ValueDim]), output.Working);
    }

    /// <inheritdoc/>
    public override MixerState CreateState(Device device, int sequences, DType precision) => new AttentionCache(device, sequences, config.KeyHeads, config.KeyDim, config.ValueDim, precision);

    /// <inheritdoc/>
    public override double FlopsPerToken(int length) => config.Heads * (config.KeyDim + config.ValueDim) * (length + 1.0);

    private Tensor Rotate(Tensor x, int position, SequenceOffsets? offsets = null) => RotaryEmbedding.Apply(x, position, (float)config.RopeTheta, offsets);

    /// <summary>Sequences differ in length, so each attends to its own cache.</summary>
    private Tensor Continue(Tensor q, Tensor k, Tensor v, SequenceOffsets? offsets, AttentionCache cache)
    {
        if (q.Shape[0] == 1 && offsets is null)
        {
            return Continue(q, k, v, cache.Sequences[0]);
        }

        Tensor output = q.Device.Empty(q.Shape.WithLast(config.ValueDim), q.DType);
        for (int i = 0; i < cache.Sequences.Count; i++)
        {
            if (TokensOf(q, i, offsets) is { } queries)
            {
                Tensor attended = Continue(queries, TokensOf(k, i, offsets)!, TokensOf(v, i, offsets)!, cache.Sequences[i]);
                TokensOf(output, i, offsets)!.CopyFrom(attended);
            }
        }

        return output;
    }

    private Tensor Continue(Tensor q, Tensor k, Tensor v, AttentionCache.Sequence sequence)
    {
        int start = sequence.Length;
        q = Rotate(q, start);
        k = Rotate(k, start);
        sequence.Append(k, v);
        if (start == 0)
        {
            return SoftmaxAttention.Apply(q, k, v);
        }

        int time = q.Shape[1];
        if (time == 1)
        {
            return SoftmaxAttention.Decode(q, sequence.Keys, sequence.Values, sequence.Length);
        }

        Tensor output = q.Device.Empty(q.Shape.WithLast(config.ValueDim), q.DType);
        Tensor queries = q.Reshape([time, 1, config.Heads, config.KeyDim]);
        Tensor results = output.Reshape([time, 1, config.Heads, config.ValueDim]);
        for (int t = 0; t < time; t++)
        {
            results.Slice(t, 1).CopyFrom(SoftmaxAttention.Decode(queries.Slice(t, 1), sequence.Keys, sequence.Values, start + t + 1));
        }

        return output;
    }

    /// <summary>The tokens [1, time, heads, dim] of one sequence; null when a packed document is empty.</summary>
    private static Tensor? TokensOf(Tensor x, int sequence, SequenceOffsets? offsets)
    {
        if (offsets is null)
        {
            return x.Slice(sequence, 1);
        }

        int length = offsets.End(sequence) - offsets.Start(sequence);
        return length == 0 ? null : x.Reshape([x.Shape[1], x.Shape[2], x.Shape[3]]).Slice(offsets.Start(sequence), length).Reshape([1, length, x.Shape[2], x.Shape[3]]);
    }
}
