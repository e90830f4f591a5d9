using ExactFlow.Cuda;
using ExactFlow.Tensors;

namespace ExactFlow.Operators;

/// <summary>One forward pass on a GPU and what its backward pass needs: T, P, scalars, U and the states at chunk boundaries, all O(time).</summary>
internal sealed class DeltaRuleCudaRun : IDeltaRuleCudaRun
{
    /// <summary>Tokens per chunk; the kernels are built for this number.</summary>
    public const int ChunkLength = 64;

    private readonly CudaDevice device;
    private readonly DeltaRuleKind rule;
    private readonly DeltaRuleSizes sizes;
    private readonly DeltaRuleCudaPlan plan;
    private readonly Tensor q;
    private readonly Tensor k;
    private readonly Tensor v;
    private readonly Tensor? beta;
    private readonly Tensor? logDecay;
    private readonly Tensor? initialState;
    private readonly float scale;
    private readonly nint chunks;
    private readonly nint ranges;
    private readonly Tensor inverse;
    private readonly Tensor attention;
    private readonly Tensor scalars;
    private readonly Tensor? backwardScalars;
    private readonly Tensor? boundary;
    private readonly Tensor? update;
    private readonly Tensor? transition;

    /// <summary>Takes the memory that the forward needs.</summary>
    /// <param name="device">The GPU.</param>
    /// <param name="inputs">What the operator was called with.</param>
    /// <param name="plan">Cut by <see cref="ChunkLength"/>.</param>
    /// <param name="keep">Whether a backward will follow.</param>
    public DeltaRuleCudaRun(CudaDevice device, in DeltaRuleCudaInputs inputs, DeltaRuleCudaPlan plan, bool keep)
    {
        (this.device, this.plan) = (device, plan);
        (rule, sizes, q, k, v, beta, logDecay, initialState, scale) = inputs;
        (chunks, ranges) = plan.OnDevice(device);
        int count = plan.ChunkCount, heads = sizes.ValueHeads;
        const int C = ChunkLength;
        inverse = device.Empty([count, heads, C, C], DType.BFloat16);
        attention = device.Empty([count, heads, C, C], DType.BFloat16);
        scalars = device.Empty([count, heads, C, 4]);
        if (keep)
        {
            backwardScalars = device.Empty([count, heads, C, 4]);
            boundary = device.Empty([count, heads, sizes.KeyDim, sizes.ValueDim], DType.BFloat16);
            update = device.Empty(v.Shape, DType.BFloat16);
        }

        if (plan.Segments > 1)
        {
            transition = device.Empty([plan.Sequences, plan.Segments, heads, sizes.KeyDim, sizes.KeyDim]);
        }
    }

    private string ForwardSource => $"delta_rule_forward_{sizes.KeyDim}.cu";

    private string BackwardSource => $"delta_rule_backward_{sizes.KeyDim}.cu";

    /// <summary>Size of keys and slices of a block, as the kernels' names end.</summary>
    private string Slices => $"{sizes.KeyDim}x{plan.Slices}";

    private Shape SegmentStates => [plan.Sequences, plan.Segments, sizes.ValueHeads, sizes.KeyDim, sizes.ValueDim];

    /// <summary>Fills the output and the final state.</summary>
    public void Forward(Tensor? output, Tensor? finalState)
    {
        var shared = DeltaRuleCuda.SharedBytes(sizes.KeyDim, plan.Slices);
        CudaLaunch.Run(device, "delta_rule_prepare.cu", $"delta_prepare_{sizes.KeyDim}", new LaunchGeometry(plan.ChunkCount * sizes.ValueHeads, 1, 1, 128, 1, 1, shared.Prepare), new PrepareArguments
        {
            Query = q.Address, Key = k.Address, Beta = Address(beta), LogDecay = Address(logDecay), Chunks = chunks, Inverse = inverse.Address, Attention = attention.Address,
            Scalars = scalars.Address, BackwardScalars = Address(backwardScalars), Rule = DeltaRuleCuda.NumberOf(rule), Heads = sizes.ValueHeads, KeyHeads = sizes.KeyHeads,
        });
        var arguments = new ScanArguments
        {
            Query = q.Address, Key = k.Address, Value = v.Address, Inverse = inverse.Address, Attention = attention.Address, Scalars = scalars.Address, Chunks = chunks, Ranges = ranges,
            Initial = Address(initialState), Output = output!.Address, FinalState = Address(finalState), Boundary = Address(boundary), Update = Address(update), Transition = Address(transition),
            Scale = scale, Heads = sizes.ValueHeads, KeyHeads = sizes.KeyHeads, ValueDim = sizes.ValueDim, Segments = plan.Segments,
        };
        using Tensor? starts = plan.Segments > 1 ? device.Empty(SegmentStates) : null;
        if (starts is not null)
        {
            using Tensor zeroStates = device.Empty(SegmentStates);
            CudaLaunch.Run(device, ForwardSource, $"delta_segments_{Slices}", ScanGeometry(shared.Scan, sizes.KeyDim / 64), arguments with { FinalState = zeroStates.Address, Initial = 0, Boundary = 0, Update = 0 });
            Combine("delta_combine", zeroStates, initialState, starts, shared.Combine);
            arguments.Initial = starts.Address;
        }

        CudaLaunch.Run(device, ForwardSource, $"delta_scan_{Slices}", ScanGeometry(shared.Scan, 0), arguments);
        if (boundary is null)
        {
            Release();
        }
    }

    /// <summary>Writes the gradients of all inputs that want one.</summary>
    public void Backward(Tensor? output, Tensor? finalState)
    {
        Tensor? gradFinal = finalState?.Grad;
        var shared = DeltaRuleCuda.SharedBytes(sizes.KeyDim, plan.Slices);
        Tensor gradOutput = output!.Grad ?? device.Zeros(output.Shape, DType.BFloat16);
        using Tensor gradBoundary = device.Empty(boundary!.Shape, DType.BFloat16);
        using Tensor gradSolve = device.Empty(v.Shape, DType.BFloat16);
        OverwrittenGradient gradQuery = OverwrittenGradient.Of(device, q, isUnconditional: true), gradKey = OverwrittenGradient.Of(device, k, isUnconditional: true);
        OverwrittenGradient gradValue = OverwrittenGradient.Of(device, v, isUnconditional: true), gradBeta = OverwrittenGradient.Of(device, beta);
        OverwrittenGradient gradLogDecay = OverwrittenGradient.Of(device, logDecay), gradInitial = OverwrittenGradient.Of(device, initialState);
        using Tensor? headQuery = PerValueHead(), headKey = PerValueHead();
        var arguments = new BackwardArguments
        {
            Query = q.Address, Key = k.Address, Value = v.Address, GradOutput = gradOutput.Address, Inverse = inverse.Address, Attention = attention.Address, Scalars = scalars.Address,
            BackwardScalars = Address(backwardScalars), Chunks = chunks, Ranges = ranges, GradFinal = Address(gradFinal), GradInitial = gradInitial.Address,
            GradBoundary = gradBoundary.Address, GradSolve = gradSolve.Address, Boundary = boundary.Address, Update = update!.Address, GradQuery = headQuery?.Address ?? gradQuery.Address, GradKey = headKey?.Address ?? gradKey.Address,
            GradValue = gradValue.Address, GradBeta = gradBeta.Address, GradLogDecay = gradLogDecay.Address, Beta = Address(beta), LogDecay = Address(logDecay), Scale = scale,
            Heads = sizes.ValueHeads, KeyHeads = sizes.KeyHeads, ValueDim = sizes.ValueDim, Segments = plan.Segments, Rule = DeltaRuleCuda.NumberOf(rule), Gated = rule.Decays ? 1 : 0, TotalChunks = plan.ChunkCount,
        };
        using Tensor? ends = plan.Segments > 1 ? device.Empty(SegmentStates) : null;
        if (ends is not null)
        {
            using Tensor zeroStates = device.Empty(SegmentStates);
            CudaLaunch.Run(device, BackwardSource, $"delta_dsegments_{Slices}", ScanGeometry(shared.Scan, 0), arguments with { GradFinal = 0, GradInitial = zeroStates.Address });
            Combine("delta_combine_back", zeroStates, gradFinal, ends, shared.Combine);
            arguments.GradFinal = ends.Address;
        }

        CudaLaunch.Run(device, BackwardSource, $"delta_dscan_{Slices}", ScanGeometry(shared.Scan, 0), arguments);
        int blocks = Math.Min(device.MultiprocessorCount, plan.ChunkCount * sizes.ValueHeads);
        CudaLaunch.Run(device, BackwardSource, $"delta_grads_{sizes.KeyDim}", new LaunchGeometry(blocks, 1, 1, 512, 1, 1, shared.Gradients), arguments);
        SumHeads(headQuery, gradQuery);
        SumHeads(headKey, gradKey);
        foreach (OverwrittenGradient gradient in (ReadOnlySpan<OverwrittenGradient>)[gradQuery, gradKey, gradValue, gradBeta, gradLogDecay, gradInitial])
        {
            gradient.Finish(device);
        }

        Release();
    }

    /// <summary>Ends what only this run needed, instead of leaving it to the end of the step.</summary>
    private void Release()
    {
        foreach (Tensor? tensor in (ReadOnlySpan<Tensor?>)[inverse, attention, scalars, backwardScalars, boundary, update, transition])
        {
            tensor?.Dispose();
        }
    }

    private static nint Address(Tensor? tensor) => tensor?.Address ?? 0;

    /// <summary>Gradients of key heads that several value heads share are computed for each of these and added up; null where nothing is shared.</summary>
    private Tensor? PerValueHead() => sizes.HeadsPerKey > 1 ? device.Empty([sizes.Batch, sizes.Time, sizes.ValueHeads, sizes.KeyDim], DType.BFloat16) : null;

    private void SumHeads(Tensor? perValueHead, OverwrittenGradient gradient)
    {
        if (perValueHead is not null)
        {
            long pairs = sizes.QueryCount / 2;
            CudaLaunch.Run(device, BackwardSource, "delta_sum_heads", CudaLaunch.Grid(device, pairs), new SumHeadsArguments
            {
                From = perValueHead.Address, To = gradient.Address, Count = pairs, Heads = sizes.ValueHeads, KeyHeads = sizes.KeyHeads, HalfDim = sizes.KeyDim / 2,
            });
        }
    }

    private void Combine(string kernel, Tensor zeroStates, Tensor? initial, Tensor starts, int sharedBytes)
        => CudaLaunch.Run(
            device,
            ForwardSource,
            $"{kernel}_{sizes.KeyDim}",
            new LaunchGeometry(plan.Sequences, sizes.ValueHeads, sizes.ValueDim / DeltaRuleCuda.CombinedColumns, 2 * sizes.KeyDim, 1, 1, sharedBytes),
            new CombineArguments { Transition = transition!.Address, ZeroStates = zeroStates.Address, Initial = Address(initial), Starts = starts.Address, Heads = sizes.ValueHeads, ValueDim = sizes.ValueDim, Segments = plan.Segments });

    /// <summary>A warpgroup for each slice of a block and one that loads.</summary>
    /// <param name="sharedBytes">Of a block.</param>
    /// <param name="mapSlices">Slices of the segments' maps, besides those of the values.</param>
    private LaunchGeometry ScanGeometry(int sharedBytes, int mapSlices)
        => new(plan.Sequences * plan.Segments, sizes.ValueHeads, ((sizes.ValueDim / 64) + mapSlices + plan.Slices - 1) / plan.Slices, 128 * (plan.Slices + 1), 1, 1, sharedBytes);
}
