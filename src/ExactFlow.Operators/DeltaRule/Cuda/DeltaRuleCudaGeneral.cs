using ExactFlow.Cuda;
using ExactFlow.Tensors;

namespace ExactFlow.Operators;

/// <summary>
/// The kernels for all sizes, both number formats and any GPU (<c>delta_rule_general*.cu</c>): float32 arithmetic in shared memory, chunks of 32 tokens, slices of 32 value columns.
/// What the backward pass needs is O(time): T, P, scalars, U and the states at chunk boundaries, all in float32.
/// </summary>
internal sealed class DeltaRuleCudaGeneral : IDeltaRuleCudaRun
{
    /// <summary>Tokens per chunk; the kernels are built for this number.</summary>
    public const int ChunkLength = 32;

    private const string ForwardSource = "delta_rule_general_forward.cu", BackwardSource = "delta_rule_general_backward.cu";
    private const int C = ChunkLength, Slice = 32, SquareRow = C + 4, ScanThreads = 128, GradientThreads = 256, LargestKeyDim = 256;

    private static readonly KernelName PrepareKernel = KernelName.Of("delta_general_prepare");
    private static readonly KernelName ScanKernel = KernelName.Of("delta_general_scan");
    private static readonly KernelName BackwardScanKernel = KernelName.Of("delta_general_dscan");
    private static readonly KernelName GradientsKernel = KernelName.Of("delta_general_grads");
    private static readonly KernelName PrepareStateKernel = KernelName.Of("delta_general_prepare_state");
    private static readonly KernelName ScanStateKernel = KernelName.Of("delta_general_scan_state");
    private static readonly KernelName BackwardScanStateKernel = KernelName.Of("delta_general_dscan_state");
    private static readonly KernelName GradientsStateKernel = KernelName.Of("delta_general_grads_state");
    private static readonly KernelName SumHeadsKernel = KernelName.Of("delta_general_sum_heads");

    private readonly CudaDevice device;
    private readonly DeltaRuleCudaInputs inputs;
    private readonly DeltaRuleSizes sizes;
    private readonly DeltaRuleCudaPlan plan;
    private readonly nint chunks;
    private readonly nint ranges;
    private readonly Tensor inverse;
    private readonly Tensor? attention;
    private readonly Tensor scan;
    private readonly Tensor tokens;
    private readonly Tensor? boundary;
    private readonly Tensor? update;

    /// <summary>Takes the memory that the forward needs.</summary>
    /// <param name="device">The GPU.</param>
    /// <param name="inputs">What the operator was called with.</param>
    /// <param name="plan">Cut by <see cref="ChunkLength"/>, in one segment.</param>
    /// <param name="keep">Whether a backward will follow.</param>
    /// <param name="hasOutput">Whether there are queries and outputs; otherwise only the final state is computed, and queries are not read.</param>
    public DeltaRuleCudaGeneral(CudaDevice device, in DeltaRuleCudaInputs inputs, DeltaRuleCudaPlan plan, bool keep, bool hasOutput)
    {
        (this.device, this.inputs, this.plan, sizes) = (device, inputs, plan, inputs.Sizes);
        (chunks, ranges) = plan.OnDevice(device);
        inverse = device.Empty([plan.ChunkCount, sizes.ValueHeads, C, C]);
        attention = hasOutput ? device.Empty(inverse.Shape) : null;
        scan = device.Empty([plan.ChunkCount, sizes.ValueHeads, C, 4]);
        tokens = device.Empty(scan.Shape);
        if (keep)
        {
            boundary = device.Empty(BoundaryStates);
            update = device.Empty(inputs.Value.Shape);
        }
    }

    private DType Format => inputs.Value.DType;

    private Shape BoundaryStates => [plan.ChunkCount, sizes.ValueHeads, sizes.KeyDim, sizes.ValueDim];

    private GeneralSizes Sizes => new() { Heads = sizes.ValueHeads, KeyHeads = sizes.KeyHeads, KeyDim = sizes.KeyDim, ValueDim = sizes.ValueDim };

    /// <summary>The longest keys for which every kernel's tiles fit into a block's shared memory.</summary>
    public static int MaxKeyDim(CudaDevice device)
    {
        int keyDim = LargestKeyDim;
        while (keyDim > 1 && SharedBytes(keyDim, hasOutput: true).Gradients > device.MaxSharedBytes)
        {
            keyDim--;
        }

        return keyDim;
    }

    /// <summary>Gradients of key heads that several value heads share are computed for each of these and added up; float32, or null where nothing is shared or wanted.</summary>
    internal static Tensor? PerValueHead(CudaDevice device, in DeltaRuleSizes sizes, Tensor input)
        => sizes.HeadsPerKey > 1 && input.RequiresGrad ? device.Empty([sizes.Batch, sizes.Time, sizes.ValueHeads, sizes.KeyDim]) : null;

    /// <summary>Adds the gradients per value head up where there are some.</summary>
    internal static void SumHeads(CudaDevice device, DType format, in DeltaRuleSizes sizes, Tensor? perValueHead, CudaTarget target)
    {
        if (perValueHead is not null)
        {
            CudaLaunch.Run(device, BackwardSource, SumHeadsKernel, format, CudaLaunch.Grid(device, sizes.QueryCount), new GeneralSumArguments
            {
                From = perValueHead.Address, To = target, Count = sizes.QueryCount, Group = sizes.HeadsPerKey, KeyDim = sizes.KeyDim,
            });
        }
    }

    /// <inheritdoc/>
    public void Forward(Tensor? output, Tensor? finalState)
    {
        bool hasOutput = output is not null;
        var shared = SharedBytes(sizes.KeyDim, hasOutput);
        Launch(ForwardSource, hasOutput ? PrepareKernel : PrepareStateKernel, new LaunchGeometry(plan.ChunkCount * sizes.ValueHeads, 1, 1, ScanThreads, 1, 1, shared.Prepare), new GeneralPrepareArguments
        {
            Query = inputs.Query.Address, Key = inputs.Key.Address, Beta = Address(inputs.Beta), LogDecay = Address(inputs.LogDecay), Chunks = chunks,
            Inverse = inverse.Address, Attention = Address(attention), Scan = scan.Address, Tokens = tokens.Address, Sizes = Sizes, Rule = DeltaRuleCuda.NumberOf(inputs.Rule),
        });
        Launch(ForwardSource, hasOutput ? ScanKernel : ScanStateKernel, ScanGeometry(shared.Scan), new GeneralScanArguments
        {
            Query = inputs.Query.Address, Key = inputs.Key.Address, Value = inputs.Value.Address, Inverse = inverse.Address, Attention = Address(attention), Scan = scan.Address,
            Chunks = chunks, Ranges = ranges, Initial = Address(inputs.InitialState), Output = Address(output), FinalState = Address(finalState),
            Boundary = Address(boundary), Update = Address(update), Sizes = Sizes, Scale = inputs.Scale,
        });
        if (boundary is null)
        {
            Release();
        }
    }

    /// <inheritdoc/>
    public void Backward(Tensor? output, Tensor? finalState)
    {
        // Where nothing came back to the outputs, gradients act through the final state alone.
        Tensor? gradOutput = output?.Grad;
        bool hasOutput = gradOutput is not null;
        using Tensor gradBoundary = device.Empty(BoundaryStates);
        using Tensor gradSolve = device.Empty(inputs.Value.Shape);
        using Tensor? headQuery = hasOutput ? PerValueHead(device, sizes, inputs.Query) : null, headKey = PerValueHead(device, sizes, inputs.Key);
        // In the order in which the kernels write, in case two of them are one tensor: a later one adds.
        CudaTarget value = CudaTarget.Of(inputs.Value), query = hasOutput ? CudaTarget.Of(inputs.Query) : default, key = CudaTarget.Of(inputs.Key);
        var arguments = new GeneralBackwardArguments
        {
            Query = inputs.Query.Address, Key = inputs.Key.Address, Value = inputs.Value.Address, GradOutput = Address(gradOutput), Inverse = inverse.Address, Attention = Address(attention),
            Scan = scan.Address, Tokens = tokens.Address, Chunks = chunks, Ranges = ranges, Beta = Address(inputs.Beta), LogDecay = Address(inputs.LogDecay),
            GradFinal = Address(finalState?.Grad), GradBoundary = gradBoundary.Address, GradSolve = gradSolve.Address, Boundary = boundary!.Address, Update = update!.Address,
            HeadQuery = Address(headQuery), HeadKey = Address(headKey), GradQuery = query, GradKey = key, GradValue = value,
            GradBeta = CudaTarget.Of(inputs.Beta), GradLogDecay = CudaTarget.Of(inputs.LogDecay), GradInitial = CudaTarget.Of(inputs.InitialState),
            Sizes = Sizes, Scale = inputs.Scale, Rule = DeltaRuleCuda.NumberOf(inputs.Rule), Decays = inputs.Rule.Decays ? 1 : 0,
        };
        var shared = SharedBytes(sizes.KeyDim, hasOutput);
        Launch(BackwardSource, hasOutput ? BackwardScanKernel : BackwardScanStateKernel, ScanGeometry(shared.BackwardScan), arguments);
        Launch(BackwardSource, hasOutput ? GradientsKernel : GradientsStateKernel, new LaunchGeometry(plan.ChunkCount * sizes.ValueHeads, 1, 1, GradientThreads, 1, 1, shared.Gradients), arguments);
        SumHeads(device, Format, sizes, headQuery, query);
        SumHeads(device, Format, sizes, headKey, key);
        if (output is not null && !hasOutput)
        {
            DeltaRule.ZeroGradient(inputs.Query);
        }

        Release();
    }

    /// <summary>Dynamic shared memory of each kernel, in the order of its tiles in the sources.</summary>
    private static (int Prepare, int Scan, int BackwardScan, int Gradients) SharedBytes(int keyDim, bool hasOutput)
    {
        // Without outputs the stacks of keys over queries, and of what belongs to them, are keys alone.
        int stack = hasOutput ? 2 : 1, pieces = (keyDim + 3) / 4, padded = pieces * 4, row = (pieces | 1) * 4;
        int rows = stack * C * row, squares = stack * C * SquareRow, state = padded * Slice;
        return (
            sizeof(float) * (rows + (C * SquareRow)),
            sizeof(float) * (rows + squares + ((stack + 1) * C * Slice) + state),
            sizeof(float) * (rows + squares + (stack * 2 * C * Slice) + state),
            sizeof(float) * (Math.Max(rows, (((stack + 1) * C) + padded) * SquareRow) + ((stack + 1) * C * row) + squares));
    }

    /// <summary>Ends what only this run needed, instead of leaving it to the end of the step.</summary>
    private void Release()
    {
        foreach (Tensor? tensor in (ReadOnlySpan<Tensor?>)[inverse, attention, scan, tokens, boundary, update])
        {
            tensor?.Dispose();
        }
    }

    private static nint Address(Tensor? tensor) => tensor?.Address ?? 0;

    private LaunchGeometry ScanGeometry(int sharedBytes) => new(plan.Sequences, sizes.ValueHeads, (sizes.ValueDim + Slice - 1) / Slice, ScanThreads, 1, 1, sharedBytes);

    private void Launch<T>(string source, KernelName kernel, LaunchGeometry geometry, in T arguments)
        where T : unmanaged
        => CudaLaunch.Run(device, source, kernel, Format, geometry, arguments);
}
