using ExactFlow.Models.Layers;
using ExactFlow.Operators;
using ExactFlow.Tensors;

namespace ExactFlow.Models;

/// <summary>
/// A causal language model on a device: embeddings, blocks, final norm, output head. All computation happens in the device's open step.
/// Dispose it to release the parameters.
/// </summary>
public sealed class LanguageModel : IDisposable
{
    private readonly Network network;

    /// <summary>Builds a model with fresh weights.</summary>
    /// <param name="device">Where it lives.</param>
    /// <param name="config">Its shape.</param>
    /// <param name="seed">Seed of the initial weights: each parameter has a random stream of its own, named after it. They are the same on every device.</param>
    /// <param name="precision">
    /// Number format of activations and of the matrices they are multiplied by: float32, or bfloat16 on a GPU, where every matrix then has a rounded copy
    /// to compute with beside its float32 value. Vectors, convolution weights, gradients of parameters and recurrent states are float32 always.
    /// </param>
    /// <exception cref="InvalidInputException">The configuration cannot be built, or the device does not compute in that precision.</exception>
    public LanguageModel(Device device, LanguageModelConfig config, ulong seed = 42, DType precision = DType.Float32)
        : this(device, config, precision, layout => layout.Draw(device, seed))
    {
    }

    /// <summary>Builds a model with weights from elsewhere.</summary>
    /// <param name="device">Where it lives.</param>
    /// <param name="config">Its shape.</param>
    /// <param name="precision">As above.</param>
    /// <param name="supply">Gives every parameter of the layout its value on the device; what it has given is released if it fails.</param>
    internal LanguageModel(Device device, LanguageModelConfig config, DType precision, Action<ParameterLayout> supply)
    {
        ArgumentNullException.ThrowIfNull(device);
        ArgumentNullException.ThrowIfNull(config);
        RequirePrecision(device, precision);
        Device = device;
        Config = config;
        Precision = precision;
        network = new Network(config);
        try
        {
            supply(network.Layout);
            network.Layout.Refresh(precision);
        }
        catch
        {
            network.Layout.Release();
            throw;
        }

        Parameters = [.. network.Layout.Parameters.Select(parameter => parameter.Parameter)];
    }

    /// <summary>Where it lives.</summary>
    public Device Device { get; }

    /// <summary>Its shape.</summary>
    public LanguageModelConfig Config { get; }

    /// <summary>Number format of the activations.</summary>
    public DType Precision { get; }

    /// <summary>The parameters, in the order of files, for an optimizer.</summary>
    public IReadOnlyList<Parameter> Parameters { get; }

    /// <summary>The parameters as their layers declare them, in the same order.</summary>
    public ParameterLayout Layout => network.Layout;

    /// <summary>Numbers in all parameters together.</summary>
    public long ParameterCount => network.Layout.Count;

    /// <summary>The output head, [vocabulary, hidden] in the model's precision: the embedding table when tied.</summary>
    public Tensor Head => network.Head.Working;

    /// <summary>Numbers in all parameters of a model, without making one.</summary>
    /// <exception cref="InvalidInputException">The configuration cannot be built.</exception>
    public static long CountParameters(LanguageModelConfig config)
    {
        ArgumentNullException.ThrowIfNull(config);
        return new Network(config).Layout.Count;
    }

    /// <summary>Floating-point operations of a forward pass per token of a sequence of <paramref name="length"/> tokens; training takes three times as many.</summary>
    /// <remarks>Two per number in a matrix product, and the mixers' own in their chunkwise form.</remarks>
    public double ForwardFlopsPerToken(int length)
    {
        double flops = 2.0 * network.MultipliedParameters;
        foreach (Block block in network.Blocks)
        {
            flops += block.Mixer.FlopsPerToken(length);
        }

        return flops;
    }

    /// <summary>Chooses what the backward pass computes again instead of keeping it from the forward pass: less memory for more time, the same gradients.</summary>
    /// <param name="level">How much.</param>
    /// <param name="blocks">How many blocks, from the first on; the others do what the level below does. 0 for all.</param>
    public void Recompute(Recomputation level, int blocks = 0)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(blocks);
        for (int i = 0; i < network.Blocks.Count; i++)
        {
            network.Blocks[i].Recomputation = blocks == 0 || i < blocks || level == Recomputation.None ? level : level - 1;
        }
    }

    /// <summary>Runs the model up to the final norm.</summary>
    /// <param name="ids">Int32 [batch, time].</param>
    /// <param name="offsets">Documents of a packed row (batch 1): none sees another.</param>
    /// <param name="state">
    /// What was read before, updated in place: one sequence per row of <paramref name="ids"/>, or per document of a packed row. For steps that record no gradients.
    /// </param>
    /// <returns>[batch, time, hidden] in the model's precision.</returns>
    /// <exception cref="InvalidInputException">Shapes do not fit, or an id is not in the vocabulary.</exception>
    public Tensor Forward(Tensor ids, SequenceOffsets? offsets = null, ModelState? state = null)
    {
        CheckIds(ids, offsets);
        if (state is not null)
        {
            CheckState(ids, offsets, state);
        }

        return network.Forward(ids, offsets, state);
    }

    /// <summary>The mean loss of predicting <paramref name="targets"/>; the full logits never exist.</summary>
    /// <param name="ids">Int32 [batch, time].</param>
    /// <param name="targets">Int32 [batch, time]: the token after each; <see cref="CrossEntropy.DefaultIgnoreIndex"/> where nothing is asked.</param>
    /// <param name="offsets">Documents of a packed row (batch 1).</param>
    /// <returns>A scalar of the open step, in nats per target.</returns>
    /// <exception cref="InvalidInputException">Shapes do not fit, or an id is not in the vocabulary.</exception>
    public Tensor Loss(Tensor ids, Tensor targets, SequenceOffsets? offsets = null)
    {
        Tensor hidden = Forward(ids, offsets);
        return CrossEntropy.Apply(hidden, Head, Targets(ids, targets));
    }

    /// <summary>The loss of every token, without gradient: for evaluation.</summary>
    /// <param name="ids">Int32 [batch, time].</param>
    /// <param name="targets">Int32 [batch, time].</param>
    /// <param name="offsets">Documents of a packed row (batch 1).</param>
    /// <param name="state">What was read before, as in <see cref="Forward"/>.</param>
    /// <returns>Float32 [batch * time], in nats; 0 where nothing is asked.</returns>
    public Tensor TokenLosses(Tensor ids, Tensor targets, SequenceOffsets? offsets = null, ModelState? state = null)
    {
        Tensor hidden = Forward(ids, offsets, state);
        return CrossEntropy.PerToken(hidden, Head, Targets(ids, targets));
    }

    /// <summary>The logits that follow tokens.</summary>
    /// <param name="rows">[tokens, hidden], rows of what <see cref="Forward"/> returns.</param>
    /// <returns>Float32 [tokens, vocabulary].</returns>
    public Tensor Logits(Tensor rows) => Elementwise.Convert(Linear.Apply(rows, Head), DType.Float32);

    /// <summary>The logits that follow the last token of every sequence.</summary>
    /// <param name="hidden">[batch, time, hidden], from <see cref="Forward"/>.</param>
    /// <param name="offsets">Documents of a packed row; each must have a token.</param>
    /// <returns>Float32 [sequences, vocabulary].</returns>
    /// <exception cref="InvalidInputException">A sequence is empty.</exception>
    public Tensor LastLogits(Tensor hidden, SequenceOffsets? offsets = null)
    {
        ArgumentNullException.ThrowIfNull(hidden);
        int sequences = offsets?.Count ?? hidden.Shape[0];
        if (offsets is null && hidden.Shape[1] == 1)
        {
            return Logits(hidden.Reshape([sequences, Config.HiddenSize]));
        }

        Tensor rows = Rows(hidden);
        Tensor last = Device.Empty([sequences, Config.HiddenSize], hidden.DType);
        for (int i = 0; i < sequences; i++)
        {
            int start = offsets?.Start(i) ?? i * hidden.Shape[1];
            int end = offsets?.End(i) ?? start + hidden.Shape[1];
            if (end == start)
            {
                throw new InvalidInputException($"The logits after sequence {i} were asked for, but it has no tokens; give every sequence at least one.");
            }

            last.Slice(i, 1).CopyFrom(rows.Slice(end - 1, 1));
        }

        return Logits(last);
    }

    /// <summary>The state before the first token, for decoding; the caller disposes it.</summary>
    /// <param name="sequences">Sequences decoded together.</param>
    public ModelState CreateState(int sequences = 1)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(sequences, 1);
        return new ModelState([.. network.Blocks.Select(block => block.Mixer.CreateState(Device, sequences, Precision))], sequences);
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        foreach (Parameter parameter in Parameters)
        {
            parameter.Dispose();
        }
    }

    /// <summary>Makes what operators read agree with the weights, after they were changed from outside.</summary>
    internal void RefreshWeights()
    {
        foreach (Parameter parameter in Parameters)
        {
            parameter.RefreshWorkingCopy();
        }
    }

    private static void RequirePrecision(Device device, DType precision)
    {
        if (precision is not (DType.Float32 or DType.BFloat16) || (precision == DType.BFloat16 && device is CpuDevice))
        {
            throw new InvalidInputException(
                $"A language model on {device.Name} was to compute in {precision}, which {(device is CpuDevice ? "the CPU does" : "it does")} not: use float32{(device is CpuDevice ? ", or bfloat16 with --device cuda" : " or bfloat16")}.");
        }
    }

    private static void CheckIds(Tensor ids, SequenceOffsets? offsets)
    {
        ArgumentNullException.ThrowIfNull(ids);
        if (ids.Shape.Rank != 2 || (offsets is not null && (ids.Shape[0] != 1 || ids.Shape[1] != offsets.TotalLength)))
        {
            string expected = offsets is null ? "[batch, time]" : $"[1, {offsets.TotalLength}] for its packed documents";
            throw new InvalidInputException($"A language model expects ids of shape {expected}, but they have shape {ids.Shape}.");
        }
    }

    private void CheckState(Tensor ids, SequenceOffsets? offsets, ModelState state)
    {
        int sequences = offsets?.Count ?? ids.Shape[0];
        if (state.Sequences != sequences || state.Layers.Count != network.Blocks.Count)
        {
            throw new InvalidInputException(
                $"A model of {network.Blocks.Count} layers reading {sequences} sequences was given a state of {state.Layers.Count} layers and {state.Sequences} sequences; make one with CreateState({sequences}).");
        }

        if (Device.CurrentStep is { RecordsGradients: true })
        {
            throw new InvalidInputException("A model was given a carried state in a step that records gradients, which a state does not have; open the step with recordGradients: false.");
        }
    }

    private Tensor Targets(Tensor ids, Tensor targets)
    {
        ArgumentNullException.ThrowIfNull(targets);
        return targets.Shape == ids.Shape
            ? targets.Reshape([checked((int)targets.Count)])
            : throw new InvalidInputException($"A language model's targets must have the shape of its ids {ids.Shape}, but they have shape {targets.Shape}.");
    }

    private Tensor Rows(Tensor hidden) => hidden.Reshape([checked((int)hidden.Shape.RowCount()), Config.HiddenSize]);
}
