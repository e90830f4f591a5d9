using ExactFlow.Cuda;
using ExactFlow.Tensors;

namespace ExactFlow.Operators;

/// <summary>
/// The delta rule on a GPU: <c>prepare</c> makes what does not depend on the state, <c>scan</c> carries the state through the chunks, and backwards <c>dscan</c> and <c>grads</c>.
/// There are two sets of these kernels, for tensor cores (<see cref="DeltaRuleCudaRun"/>) and for everything else (<see cref="DeltaRuleCudaGeneral"/>), one that walks token by token
/// for small heads (<see cref="DeltaRuleCudaSmall"/>), and one for decoding.
/// </summary>
internal static class DeltaRuleCuda
{
    private const int TileBytes = 64 * 64 * 2;
    private const int StepColumns = 16;

    /// <summary>Value columns of a block that combines segments.</summary>
    public const int CombinedColumns = 8;

    private static readonly KernelName Step64 = KernelName.Of("delta_step_64");
    private static readonly KernelName Step128 = KernelName.Of("delta_step_128");
    private static readonly KernelName Step256 = KernelName.Of("delta_step_256");

    /// <summary>The kernels' numbers of the rules.</summary>
    private static readonly string[] RuleNumbers =
    [
        "efla", "deltanet", "implicit_euler", "cayley", "rk2", "rk4", "explicit_euler", "linear_attention", "mamba2", "gated_deltanet", "gated_efla", "log_rate_gated_efla",
        "clipped_euler", "unit_key_flow", "unit_key_flow_scaled_value",
    ];

    /// <summary>Runs the recurrence and records its gradient; see <see cref="DeltaRule.Apply"/>.</summary>
    /// <param name="segments">Segments per sequence, or 0 to choose.</param>
    /// <param name="slices">Slices of 64 value columns in a block of the tensor-core scans, 1 or 2, or 0 to choose.</param>
    public static DeltaRuleResult Apply(
        CudaDevice device, DeltaRuleKind rule, Tensor q, Tensor k, Tensor v, Tensor? beta, Tensor? logDecay, DeltaRuleOptions options, int segments = 0, int slices = 0)
    {
        DeltaRuleSizes sizes = Check(device, rule, q, k, v, beta, logDecay, options.Offsets, options.InitialState, options.ChunkLength ?? DeltaRuleCudaRun.ChunkLength);
        RequireChunkwise(device, options.Form);

        var inputs = new DeltaRuleCudaInputs(
            rule, sizes, q, k, v, rule.UsesBeta ? beta : null, rule.Decays ? logDecay : null, options.InitialState, options.Scale ?? 1 / MathF.Sqrt(sizes.KeyDim));
        bool record = device.CurrentStep is { RecordsGradients: true }
            && Array.Exists([q, k, v, beta, logDecay, options.InitialState], static input => input is { RequiresGrad: true });
        Tensor output = device.Empty(v.Shape, v.DType);
        Tensor? finalState = options.WantFinalState ? device.Empty(DeltaRuleShapes.State(sizes, options.Offsets)) : null;
        IDeltaRuleCudaRun run = Plan(device, inputs, options.Offsets, (segments, slices), record);
        run.Forward(output, finalState);
        if (record)
        {
            device.CurrentStep!.Tape.Record(output, finalState, () =>
            {
                run.Backward(output, finalState);
                DeltaRule.ZeroGradient(rule.UsesBeta ? null : beta);
                DeltaRule.ZeroGradient(rule.Decays ? null : logDecay);
            });
        }

        return new DeltaRuleResult(output, finalState);
    }

    /// <summary>Runs the recurrence for the state after it alone; see <see cref="DeltaRule.FinalState"/>. The kernels for tensor cores always make outputs, so it goes through those for all sizes.</summary>
    public static Tensor FinalState(CudaDevice device, DeltaRuleKind rule, Tensor k, Tensor v, Tensor? beta, Tensor? logDecay, DeltaRuleOptions options)
    {
        DeltaRuleSizes sizes = Check(device, rule, k, k, v, beta, logDecay, options.Offsets, options.InitialState, options.ChunkLength ?? DeltaRuleCudaRun.ChunkLength);
        RequireChunkwise(device, options.Form);
        var inputs = new DeltaRuleCudaInputs(rule, sizes, k, k, v, rule.UsesBeta ? beta : null, rule.Decays ? logDecay : null, options.InitialState, 1);
        bool record = device.CurrentStep is { RecordsGradients: true } && Array.Exists([k, v, beta, logDecay, options.InitialState], static input => input is { RequiresGrad: true });
        Tensor finalState = device.Empty(DeltaRuleShapes.State(sizes, options.Offsets));
        IDeltaRuleCudaRun run = (long)sizes.Batch * sizes.Time == 0 ? new DeltaRuleCudaNothing(inputs) : General(device, inputs, options.Offsets, record, hasOutput: false);
        run.Forward(null, finalState);
        if (record)
        {
            device.CurrentStep!.Tape.Record(finalState, () =>
            {
                run.Backward(null, finalState);
                DeltaRule.ZeroGradient(rule.UsesBeta ? null : beta);
                DeltaRule.ZeroGradient(rule.Decays ? null : logDecay);
            });
        }

        return finalState;
    }

    /// <summary>Takes sequences further by a few tokens; see <see cref="DeltaRule.Step"/>.</summary>
    public static Tensor Step(CudaDevice device, DeltaRuleKind rule, Tensor q, Tensor k, Tensor v, Tensor? beta, Tensor? logDecay, Tensor state, float? scale)
    {
        DeltaRuleSizes sizes = Check(device, rule, q, k, v, beta, logDecay, offsets: null, state, chunkLength: 1);
        RequireKeyDim(device, sizes);
        Tensor output = device.Empty(v.Shape, v.DType);
        if (output.Count == 0)
        {
            return output;
        }

        KernelName kernel = sizes.KeyDim <= 64 ? Step64 : sizes.KeyDim <= 128 ? Step128 : Step256;
        var geometry = new LaunchGeometry(sizes.Batch * sizes.ValueHeads, (sizes.ValueDim + StepColumns - 1) / StepColumns, 1, 128, 1, 1, 0);
        CudaLaunch.Run(device, "delta_rule_step.cu", kernel, v.DType, geometry, new StepArguments
        {
            Query = q.Address, Key = k.Address, Value = v.Address, Beta = rule.UsesBeta ? beta!.Address : 0, LogDecay = rule.Decays ? logDecay!.Address : 0, State = state.Address,
            Output = output.Address, Heads = sizes.ValueHeads, KeyHeads = sizes.KeyHeads, KeyDim = sizes.KeyDim, ValueDim = sizes.ValueDim, Time = sizes.Time,
            Rule = NumberOf(rule), Scale = scale ?? 1 / MathF.Sqrt(sizes.KeyDim),
        });
        return output;
    }

    /// <summary>The number by which the kernels know a rule.</summary>
    public static int NumberOf(DeltaRuleKind rule) => Array.IndexOf(RuleNumbers, rule.Name);

    /// <summary>Dynamic shared memory of each kernel, as its <c>Shared</c> structure (plus room to align it to 1,024 bytes).</summary>
    /// <param name="keyDim">64 or 128.</param>
    /// <param name="slices">Slices of 64 value columns that a block of the scans has.</param>
    public static (int Prepare, int Scan, int Combine, int Gradients) SharedBytes(int keyDim, int slices)
    {
        int tiles = keyDim / 64;
        const int Scalars = 64 * 16;
        int scan = ((4 - slices) * ((((2 * tiles) + 2 + slices) * TileBytes) + Scalars)) + (slices * (tiles + 3) * TileBytes) + 1024;
        int gradients = (4 * tiles * TileBytes) + (2 * (3 + (2 * tiles)) * TileBytes) + (4 * TileBytes) + (2 * Scalars) + (6 * 64 * 4) + 16 + 1024;
        int prepare = Math.Max(2 * 64 * (keyDim + 8) * 2, 2 * 64 * 68 * 4);
        return (prepare, scan, (3 * keyDim * (keyDim + 4) * 4) + (keyDim * CombinedColumns * 4), gradients);
    }

    private static IDeltaRuleCudaRun Plan(CudaDevice device, in DeltaRuleCudaInputs inputs, SequenceOffsets? offsets, (int Segments, int Slices) wanted, bool keep)
    {
        DeltaRuleSizes sizes = inputs.Sizes;
        if ((long)sizes.Batch * sizes.Time == 0)
        {
            return new DeltaRuleCudaNothing(inputs);
        }

        if (UsesTensorCores(device, inputs))
        {
            return new DeltaRuleCudaRun(device, inputs, DeltaRuleCudaPlan.For(sizes, offsets, DeltaRuleCudaRun.ChunkLength, device.MultiprocessorCount, wanted), keep);
        }

        return wanted.Segments == 0 && DeltaRuleCudaSmall.Takes(sizes, offsets)
            ? new DeltaRuleCudaSmall(device, inputs, keep)
            : General(device, inputs, offsets, keep, hasOutput: true);
    }

    private static DeltaRuleCudaGeneral General(CudaDevice device, in DeltaRuleCudaInputs inputs, SequenceOffsets? offsets, bool keep, bool hasOutput)
    {
        RequireKeyDim(device, inputs.Sizes);
        return new DeltaRuleCudaGeneral(
            device, inputs, DeltaRuleCudaPlan.For(inputs.Sizes, offsets, DeltaRuleCudaGeneral.ChunkLength, device.MultiprocessorCount, (1, 1)), keep, hasOutput);
    }

    private static void RequireChunkwise(CudaDevice device, DeltaRuleForm form)
    {
        if (form == DeltaRuleForm.Reference)
        {
            throw new InvalidInputException($"The reference form of the delta rule computes in float64 on the CPU, but the tensors are on {device.Name}: use --device cpu, or another form.");
        }
    }

    /// <summary>Whether the tensor-core kernels are built for these sizes and this GPU: <c>wgmma</c> is an instruction of compute capability 9.0 alone.</summary>
    private static bool UsesTensorCores(CudaDevice device, in DeltaRuleCudaInputs inputs)
        => inputs.Query.DType == DType.BFloat16 && inputs.Sizes.KeyDim is 64 or 128 && inputs.Sizes.ValueDim % 64 == 0 && device.ComputeCapability == new Version(9, 0);

    private static DeltaRuleSizes Check(
        CudaDevice device, DeltaRuleKind rule, Tensor q, Tensor k, Tensor v, Tensor? beta, Tensor? logDecay, SequenceOffsets? offsets, Tensor? state, int chunkLength)
    {
        ArgumentNullException.ThrowIfNull(k);
        ArgumentNullException.ThrowIfNull(v);
        if (q.DType is not (DType.Float32 or DType.BFloat16) || k.DType != q.DType || v.DType != q.DType)
        {
            throw new InvalidInputException($"The delta rule on {device.Name} takes q, k and v all in float32 or all in bfloat16, but they are {q.DType}, {k.DType} and {v.DType}; convert them first.");
        }

        foreach ((string name, Tensor? tensor) in ((string, Tensor?)[])[("beta", beta), ("log_decay", logDecay), ("the state", state)])
        {
            if (tensor is not null && tensor.DType != DType.Float32)
            {
                throw new InvalidInputException($"The delta rule takes {name} in float32, but it is {tensor.DType}; convert it first.");
            }
        }

        return DeltaRuleShapes.Check(rule, q.Shape, k.Shape, v.Shape, beta?.Shape, logDecay?.Shape, offsets, state?.Shape, chunkLength);
    }

    private static void RequireKeyDim(CudaDevice device, DeltaRuleSizes sizes)
    {
        int limit = DeltaRuleCudaGeneral.MaxKeyDim(device);
        if (sizes.KeyDim > limit)
        {
            throw new InvalidInputException($"The delta rule on {device.Name} takes keys of at most {limit} per head, but they are {sizes.KeyDim}: use more heads, or --device cpu.");
        }
    }
}
