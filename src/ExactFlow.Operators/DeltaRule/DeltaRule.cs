using ExactFlow.Cuda;
using ExactFlow.Tensors;

namespace ExactFlow.Operators;

/// <summary>
/// The delta-rule family: <c>S_t = g_t (I - e_t k_t k_t^T) S_{t-1} + w_t k_t v_t^T</c>, <c>o_t = scale S_t^T q_t</c>, per head,
/// with the scalars g, e, w given by a <see cref="DeltaRuleKind"/>. One recurrence for linear attention, DeltaNet, EFLA, their gated
/// relatives and Mamba-2; see README.md in this folder for equations, gradients and cost.
/// </summary>
public static unsafe class DeltaRule
{
    /// <summary>Runs the recurrence over whole sequences and records its gradient.</summary>
    /// <param name="rule">Where g, e and w come from.</param>
    /// <param name="q">Queries, <c>[batch, time, keyHeads, keyDim]</c>, float32; on a GPU q, k and v may be bfloat16, while scalars and states are float32, and keyDim is at most 256.</param>
    /// <param name="k">Keys as they are (rules with unit keys normalise them), <c>[batch, time, keyHeads, keyDim]</c>.</param>
    /// <param name="v">Values, <c>[batch, time, valueHeads, valueDim]</c>; valueHeads is a multiple of keyHeads.</param>
    /// <param name="beta">Step sizes, at least 0, <c>[batch, time, valueHeads]</c>; may be null for rules without.</param>
    /// <param name="logDecay">ln alpha, at most 0, <c>[batch, time, valueHeads]</c>; may be null for rules that do not decay.</param>
    /// <param name="options">Scale, initial state, packed documents, form; the defaults if null.</param>
    /// <returns>The output <c>[batch, time, valueHeads, valueDim]</c> and, if wanted, the final state.</returns>
    /// <exception cref="InvalidInputException">Shapes, dtypes or options do not fit together, or the device is not supported.</exception>
    public static DeltaRuleResult Apply(DeltaRuleKind rule, Tensor q, Tensor k, Tensor v, Tensor? beta, Tensor? logDecay, DeltaRuleOptions? options = null)
    {
        ArgumentNullException.ThrowIfNull(rule);
        options ??= DeltaRuleOptions.Default;
        ArgumentNullException.ThrowIfNull(q);
        if (q.Device is CudaDevice gpu)
        {
            return DeltaRuleCuda.Apply(gpu, rule, q, k, v, beta, logDecay, options);
        }

        DeltaRuleSizes sizes = DeltaRuleShapes.Check(rule, q, k, v, beta, logDecay, options);
        CpuDevice device = RequireCpu(q.Device);

        Tensor output = device.Empty(v.Shape);
        Tensor? finalState = options.WantFinalState ? device.Empty(DeltaRuleShapes.State(sizes, options.Offsets)) : null;
        DeltaRuleCall<float> call = MakeCall(rule, sizes, q, k, v, beta, logDecay, options);
        call.Output = output.Floats;
        call.FinalState = finalState is null ? null : finalState.Floats;
        bool recorded = IsRecorded(device, q, k, v, beta, logDecay, options.InitialState);
        Tensor? chunkStates = RunForward(device, options.Form, ref call, recorded);
        if (recorded)
        {
            device.CurrentStep!.Tape.Record(output, finalState, () => Backward(rule, sizes, q, k, v, beta, logDecay, options, output, finalState, chunkStates));
        }

        return new DeltaRuleResult(output, finalState);
    }

    /// <summary>
    /// Runs the recurrence over whole sequences for the state after them alone, and records its gradient: no queries, no outputs, and backwards only what acts
    /// through the final state. For models that read a sequence once, at its end: <c>o = scale S^T q</c> of the last token is a product with the result.
    /// </summary>
    /// <param name="rule">Where g, e and w come from.</param>
    /// <param name="k">Keys, <c>[batch, time, keyHeads, keyDim]</c>. Number formats and limits as in <see cref="Apply"/>.</param>
    /// <param name="v">Values, <c>[batch, time, valueHeads, valueDim]</c>; valueHeads is a multiple of keyHeads.</param>
    /// <param name="beta">Step sizes, at least 0, <c>[batch, time, valueHeads]</c>; may be null for rules without.</param>
    /// <param name="logDecay">ln alpha, at most 0, <c>[batch, time, valueHeads]</c>; may be null for rules that do not decay.</param>
    /// <param name="options">Initial state, packed documents, form; the defaults if null. Scale and the wish for a final state are not read.</param>
    /// <returns>The state, float32 <c>[sequences, valueHeads, keyDim, valueDim]</c>.</returns>
    /// <exception cref="InvalidInputException">Shapes, dtypes or options do not fit together, or the device is not supported.</exception>
    public static Tensor FinalState(DeltaRuleKind rule, Tensor k, Tensor v, Tensor? beta, Tensor? logDecay, DeltaRuleOptions? options = null)
    {
        ArgumentNullException.ThrowIfNull(rule);
        options ??= DeltaRuleOptions.Default;
        ArgumentNullException.ThrowIfNull(k);
        if (k.Device is CudaDevice gpu)
        {
            return DeltaRuleCuda.FinalState(gpu, rule, k, v, beta, logDecay, options);
        }

        DeltaRuleSizes sizes = DeltaRuleShapes.Check(rule, k, k, v, beta, logDecay, options);
        CpuDevice device = RequireCpu(k.Device);
        Tensor finalState = device.Empty(DeltaRuleShapes.State(sizes, options.Offsets));
        DeltaRuleCall<float> call = MakeCall(rule, sizes, null, k, v, beta, logDecay, options);
        call.FinalState = finalState.Floats;
        bool recorded = IsRecorded(device, null, k, v, beta, logDecay, options.InitialState);
        Tensor? chunkStates = RunForward(device, options.Form, ref call, recorded);
        if (recorded)
        {
            device.CurrentStep!.Tape.Record(finalState, () => Backward(rule, sizes, null, k, v, beta, logDecay, options, null, finalState, chunkStates));
        }

        return finalState;
    }

    /// <summary>Takes sequences further by a few tokens, updating their states in place: decoding. No gradient is recorded.</summary>
    /// <param name="rule">Where g, e and w come from.</param>
    /// <param name="q">Queries, <c>[batch, time, keyHeads, keyDim]</c>; time is usually 1. Number formats as in <see cref="Apply"/>.</param>
    /// <param name="k">Keys, <c>[batch, time, keyHeads, keyDim]</c>.</param>
    /// <param name="v">Values, <c>[batch, time, valueHeads, valueDim]</c>.</param>
    /// <param name="beta">Step sizes, <c>[batch, time, valueHeads]</c>.</param>
    /// <param name="logDecay">ln alpha, <c>[batch, time, valueHeads]</c>.</param>
    /// <param name="state"><c>[batch, valueHeads, keyDim, valueDim]</c>, replaced by the state after the last token.</param>
    /// <param name="scale">Factor on the output; the default is keyDim^-1/2.</param>
    /// <returns>The output, <c>[batch, time, valueHeads, valueDim]</c>.</returns>
    /// <exception cref="InvalidInputException">Shapes or dtypes do not fit together, or the device is not supported.</exception>
    public static Tensor Step(DeltaRuleKind rule, Tensor q, Tensor k, Tensor v, Tensor? beta, Tensor? logDecay, Tensor state, float? scale = null)
    {
        ArgumentNullException.ThrowIfNull(rule);
        ArgumentNullException.ThrowIfNull(q);
        ArgumentNullException.ThrowIfNull(state);
        if (q.Device is CudaDevice gpu)
        {
            return DeltaRuleCuda.Step(gpu, rule, q, k, v, beta, logDecay, state, scale);
        }

        DeltaRuleSizes sizes = DeltaRuleShapes.Check(rule, q, k, v, beta, logDecay, offsets: null, state, chunkLength: 1);
        CpuDevice device = RequireCpu(q.Device);
        Tensor output = device.Empty(v.Shape);
        DeltaRuleCall<float> call = MakeCall(rule, sizes, q, k, v, beta, logDecay, scale, 1);
        call.InitialState = state.Floats;
        call.FinalState = state.Floats;
        call.Output = output.Floats;
        DeltaRuleForms.Forward(device, DeltaRuleForm.Recurrent, call);
        return output;
    }

    private static bool IsRecorded(CpuDevice device, Tensor? q, Tensor k, Tensor v, Tensor? beta, Tensor? logDecay, Tensor? initialState)
        => device.CurrentStep is { RecordsGradients: true }
            && (q is { RequiresGrad: true } || k.RequiresGrad || v.RequiresGrad || beta is { RequiresGrad: true } || logDecay is { RequiresGrad: true } || initialState is { RequiresGrad: true });

    /// <summary>Runs the forward pass; returns the states before each chunk where the backward pass will need them.</summary>
    private static Tensor? RunForward(CpuDevice device, DeltaRuleForm form, ref DeltaRuleCall<float> call, bool recorded)
    {
        DeltaRuleSizes sizes = call.Sizes;
        Tensor? chunkStates = recorded && form != DeltaRuleForm.Reference ? device.Empty([call.ChunkCount, sizes.ValueHeads, sizes.KeyDim, sizes.ValueDim]) : null;
        call.ChunkStates = chunkStates is null ? null : chunkStates.Floats;
        DeltaRuleForms.Forward(device, form, call);
        return chunkStates;
    }

    /// <summary>Gradients of all inputs. Where nothing came back to the outputs, or there are none, they act through the final state alone.</summary>
    private static void Backward(
        DeltaRuleKind rule,
        DeltaRuleSizes sizes,
        Tensor? q,
        Tensor k,
        Tensor v,
        Tensor? beta,
        Tensor? logDecay,
        DeltaRuleOptions options,
        Tensor? output,
        Tensor? finalState,
        Tensor? chunkStates)
    {
        CpuDevice device = RequireCpu(k.Device);
        Tensor? gradOutput = output?.Grad;
        DeltaRuleCall<float> call = MakeCall(rule, sizes, gradOutput is null ? null : q, k, v, beta, logDecay, options);
        call.GradOutput = gradOutput is null ? null : gradOutput.Floats;
        call.ChunkStates = chunkStates is null ? null : chunkStates.Floats;
        call.GradFinalState = finalState?.Grad is { } gradFinalState ? gradFinalState.Floats : null;
        if (gradOutput is null)
        {
            ZeroGradient(q);
        }
        else
        {
            call.GradQuery = Target(q);
        }

        call.GradKey = Target(k);
        call.GradValue = Target(v);
        call.GradBeta = Target(beta);
        call.GradLogDecay = Target(logDecay);
        call.GradInitialState = Target(options.InitialState);
        DeltaRuleForms.Backward(device, options.Form, call);
    }

    /// <summary>The gradient of an input that was not read, if it wants one.</summary>
    internal static void ZeroGradient(Tensor? input)
    {
        if (input is { RequiresGrad: true })
        {
            Tensor gradient = input.GradForWrite(out bool accumulate);
            if (!accumulate)
            {
                gradient.Zero();
            }
        }
    }

    private static GradientTarget<float> Target(Tensor? input)
    {
        if (input is not { RequiresGrad: true })
        {
            return default;
        }

        Tensor gradient = input.GradForWrite(out bool accumulate);
        return new GradientTarget<float>(gradient.Floats, accumulate);
    }

    private static DeltaRuleCall<float> MakeCall(DeltaRuleKind rule, DeltaRuleSizes sizes, Tensor? q, Tensor k, Tensor v, Tensor? beta, Tensor? logDecay, DeltaRuleOptions options)
    {
        DeltaRuleCall<float> call = MakeCall(rule, sizes, q, k, v, beta, logDecay, options.Scale, options.ChunkLength ?? DeltaRuleShapes.ChunkLength(sizes));
        call.Offsets = options.Offsets;
        call.InitialState = options.InitialState is { } state ? state.Floats : null;
        return call;
    }

    private static DeltaRuleCall<float> MakeCall(DeltaRuleKind rule, DeltaRuleSizes sizes, Tensor? q, Tensor k, Tensor v, Tensor? beta, Tensor? logDecay, float? scale, int chunkLength)
        => new()
        {
            Rule = rule,
            Sizes = sizes,
            Scale = scale ?? 1 / MathF.Sqrt(sizes.KeyDim),
            ChunkLength = chunkLength,
            Query = q is null ? null : q.Floats,
            Key = k.Floats,
            Value = v.Floats,
            Beta = beta is null ? null : beta.Floats,
            LogDecay = logDecay is null ? null : logDecay.Floats,
        };

    private static CpuDevice RequireCpu(Device device)
        => device as CpuDevice ?? throw new InvalidInputException($"The delta rule has no implementation for device {device.Name}; use --device cpu.");
}
