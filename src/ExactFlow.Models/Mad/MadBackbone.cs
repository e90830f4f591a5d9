using ExactFlow.Models.Layers;
using ExactFlow.Operators;
using ExactFlow.Tensors;

namespace ExactFlow.Models.Mad;

/// <summary>Token embedding and blocks: x + mixer(LayerNorm(x)), then x + SwiGLU(LayerNorm(x)); a LayerNorm at the end of a language model.</summary>
internal sealed class MadBackbone
{
    private readonly ModelParameter embeddings;
    private readonly (MadNorm Before, Mixer Mixer, MadNorm Between, SwiGluMlp Mlp)[] blocks;
    private readonly MadNorm last;

    public MadBackbone(MadModelConfig config, ParameterLayout layout)
    {
        LanguageModelConfig mixer = config.ForMixer();
        embeddings = layout.Add("embeddings.weight", [config.Vocabulary, config.Width], Initializers.Normal(0.02));
        blocks = [.. Enumerable.Range(0, config.Layers).Select(i =>
        {
            string prefix = $"layers.{i}.";
            return (new MadNorm(layout, prefix + "mixer_norm", config.Width, config.NormEpsilon), Mixer.Create(mixer, layout, prefix + "mixer."),
                new MadNorm(layout, prefix + "mlp_norm", config.Width, config.NormEpsilon), new SwiGluMlp(mixer, layout, prefix + "mlp."));
        })];
        last = new MadNorm(layout, "norm", config.Width, config.NormEpsilon);
    }

    /// <summary>Int32 [batch, time] to the sum of all blocks, [batch, time, width].</summary>
    public Tensor Forward(Tensor ids)
    {
        Tensor x = Embedding.Apply(ids, embeddings.Working);
        foreach ((MadNorm before, Mixer mixer, MadNorm between, SwiGluMlp mlp) in blocks)
        {
            x = Add(x, mixer.Forward(new LayerInput(before.Apply(x)), null, null));
            x = Add(x, mlp.Forward(new LayerInput(between.Apply(x))));
        }

        return x;
    }

    /// <summary>The norm before a language model's head.</summary>
    public Tensor Finish(Tensor x) => last.Apply(x);

    private static Tensor Add(Tensor x, Tensor addend)
    {
        Tensor sum = Elementwise.Add(x, addend);
        addend.Dispose();
        return sum;
    }
}
