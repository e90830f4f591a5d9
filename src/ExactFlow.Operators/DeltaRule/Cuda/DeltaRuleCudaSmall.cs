using System.Runtime.InteropServices;
using ExactFlow.Cuda;
using ExactFlow.Tensors;

namespace ExactFlow.Operators;

/// <summary>
/// The kernels for heads of at most 16 x 16, all scalars in the same kernel. In bfloat16 tiles of 16 tokens are products of tensor cores (<c>delta_rule_tiles*.cu</c>); in float32, and
/// up to 8 x 8, the recurrence goes token by token with the state in registers (<c>delta_rule_small*.cu</c>), backwards as a walk with the gradient of the state alone, then the
/// gradients of all tiles side by side. Either keeps the states between tiles, each token's update and its coefficients for the backward pass, in tiles also their triangular inverses.
/// </summary>
internal sealed class DeltaRuleCudaSmall : IDeltaRuleCudaRun
{
    /// <summary>The largest heads.</summary>
    private const int LargestDim = 16;

    /// <summary>With fewer heads of all sequences together, and longer sequences, chunks side by side are faster than one thread of tokens.</summary>
    private const int FewestHeads = 32, LongestOfFew = 256;

    private const string ForwardSource = "delta_rule_small_forward.cu", BackwardSource = "delta_rule_small_backward.cu";
    private const string TilesForwardSource = "delta_rule_tiles_forward.cu", TilesBackwardSource = "delta_rule_tiles_backward.cu";
    private const int HeadsPerBlock = 8, WarpThreads = 32, PartLength = 4, TilesPerBlock = 8;

    private static readonly KernelName[] ForwardKernels = Instances("delta_small_forward");
    private static readonly KernelName[] BackwardKernels = Instances("delta_small_backward");
    private static readonly KernelName[] GradientKernels = Instances("delta_small_gradients");
    private static readonly KernelName[] TilesForwardKernels = [KernelName.Of("delta_tiles_forward"), KernelName.Of("delta_tiles_forward_decays")];
    private static readonly KernelName[] TilesBackwardKernels = [KernelName.Of("delta_tiles_backward"), KernelName.Of("delta_tiles_backward_decays")];

    private readonly CudaDevice device;
    private readonly DeltaRuleCudaInputs inputs;
    private readonly SmallSizes sizes;
    private readonly int dim;
    private readonly Tensor? coefficients;
    private readonly Tensor? boundary;
    private readonly Tensor? update;
    private readonly Tensor? inverse;

    /// <summary>Takes the memory that the forward needs.</summary>
    /// <param name="device">The GPU.</param>
    /// <param name="inputs">What the operator was called with; <see cref="Takes"/> them.</param>
    /// <param name="keep">Whether a backward will follow.</param>
    public DeltaRuleCudaSmall(CudaDevice device, in DeltaRuleCudaInputs inputs, bool keep)
    {
        (this.device, this.inputs) = (device, inputs);
        DeltaRuleSizes given = inputs.Sizes;
        dim = Math.Max(given.KeyDim, given.ValueDim) <= 8 ? 8 : LargestDim;
        sizes = new SmallSizes
        {
            Pairs = checked(given.Batch * given.ValueHeads), Heads = given.ValueHeads, KeyHeads = given.KeyHeads, PerKey = given.HeadsPerKey, KeyDim = given.KeyDim, ValueDim = given.ValueDim,
            Time = given.Time, Tiles = (given.Time + dim - 1) / dim, Rule = DeltaRuleCuda.NumberOf(inputs.Rule), Scale = inputs.Scale,
        };
        if (keep)
        {
            coefficients = device.Empty([sizes.Pairs, sizes.Tiles, dim, 4]);
            boundary = device.Empty(PerTile);
            update = device.Empty(PerTile);
            inverse = IsTiled ? device.Empty(PerTile) : null;
        }
    }

    /// <summary>Tokens of a tile are as many as a state has rows, so that states at their edges and a row for each token take the same room.</summary>
    private Shape PerTile => [sizes.Pairs, sizes.Tiles, dim, dim];

    private LaunchGeometry WalkGeometry => new((sizes.Pairs + HeadsPerBlock - 1) / HeadsPerBlock, 1, 1, dim * HeadsPerBlock, 1, 1, 0);

    private LaunchGeometry GradientGeometry
    {
        get
        {
            // DecayTile of the source, for each tile of a warp.
            int tilesPerBlock = WarpThreads / dim, tiles = checked(sizes.Pairs * sizes.Tiles), row = dim + 4;
            int decayBytes = sizeof(float) * ((dim * row) + dim + (dim / PartLength * dim * row));
            return new LaunchGeometry((tiles + tilesPerBlock - 1) / tilesPerBlock, 1, 1, WarpThreads, 1, 1, inputs.Rule.Decays ? tilesPerBlock * decayBytes : 0);
        }
    }

    /// <summary>Whether the kernels for tensor cores take the call.</summary>
    private bool IsTiled => dim == LargestDim && inputs.Value.DType == DType.BFloat16;

    private KeptAddresses Kept => new() { Coefficients = Address(coefficients), State = Address(boundary), Update = Address(update), Inverse = Address(inverse) };

    /// <summary>Whether these kernels are for such a call.</summary>
    public static bool Takes(in DeltaRuleSizes sizes, SequenceOffsets? offsets)
        => offsets is null && Math.Max(sizes.KeyDim, sizes.ValueDim) <= LargestDim && (sizes.Batch * sizes.ValueHeads >= FewestHeads || sizes.Time <= LongestOfFew);

    /// <inheritdoc/>
    public void Forward(Tensor? output, Tensor? finalState)
    {
        var arguments = new ForwardArguments
        {
            Query = inputs.Query.Address, Key = inputs.Key.Address, Value = inputs.Value.Address, Beta = Address(inputs.Beta), LogDecay = Address(inputs.LogDecay),
            Initial = Address(inputs.InitialState), Output = output!.Address, FinalState = Address(finalState), Kept = Kept, Sizes = sizes,
        };
        if (IsTiled)
        {
            CudaLaunch.Run(device, TilesForwardSource, TilesForwardKernels[inputs.Rule.Decays ? 1 : 0], DType.BFloat16, TilesGeometry(loaded: 3, scalars: 0), arguments);
        }
        else
        {
            CudaLaunch.Run(device, ForwardSource, Instance(ForwardKernels), inputs.Value.DType, WalkGeometry, arguments);
        }
    }

    /// <inheritdoc/>
    public void Backward(Tensor? output, Tensor? finalState)
    {
        Tensor gradOutput = output!.Grad ?? device.Zeros(output.Shape, output.DType);
        DeltaRuleSizes given = inputs.Sizes;
        using Tensor? headQuery = PerValueHead(inputs.Query), headKey = PerValueHead(inputs.Key);
        using Tensor? gradState = IsTiled ? null : device.Empty(PerTile), gradUpdate = IsTiled ? null : device.Empty(PerTile);

        // In the order in which the kernels write, in case two of them are one tensor: a later one adds.
        CudaTarget initial = CudaTarget.Of(inputs.InitialState), value = CudaTarget.Of(inputs.Value), query = CudaTarget.Of(inputs.Query), key = CudaTarget.Of(inputs.Key);
        var arguments = new BackwardArguments
        {
            Query = inputs.Query.Address, Key = inputs.Key.Address, Value = inputs.Value.Address, GradOutput = gradOutput.Address, Beta = Address(inputs.Beta),
            LogDecay = Address(inputs.LogDecay), GradFinal = Address(finalState?.Grad), HeadQuery = Address(headQuery), HeadKey = Address(headKey),
            GradQuery = query, GradKey = key, GradValue = value, GradBeta = CudaTarget.Of(inputs.Beta), GradLogDecay = CudaTarget.Of(inputs.LogDecay), GradInitial = initial,
            Kept = Kept, GradState = Address(gradState), GradUpdate = Address(gradUpdate), Sizes = sizes,
        };
        if (IsTiled)
        {
            CudaLaunch.Run(device, TilesBackwardSource, TilesBackwardKernels[inputs.Rule.Decays ? 1 : 0], DType.BFloat16, TilesGeometry(loaded: 4, scalars: 4), arguments);
        }
        else
        {
            CudaLaunch.Run(device, BackwardSource, Instance(BackwardKernels), inputs.Value.DType, WalkGeometry, arguments);
            CudaLaunch.Run(device, BackwardSource, Instance(GradientKernels), inputs.Value.DType, GradientGeometry, arguments);
        }

        DeltaRuleCudaGeneral.SumHeads(device, inputs.Value.DType, given, headQuery, query);
        DeltaRuleCudaGeneral.SumHeads(device, inputs.Value.DType, given, headKey, key);
        coefficients!.Dispose();
        boundary!.Dispose();
        update!.Dispose();
        inverse?.Dispose();
    }

    /// <summary>For heads of 8 and 16, of rules that do not decay and of those that do.</summary>
    private static KernelName[] Instances(string name) => [KernelName.Of($"{name}_8"), KernelName.Of($"{name}_16"), KernelName.Of($"{name}_8_decays"), KernelName.Of($"{name}_16_decays")];

    /// <summary>A block per head. Its shared memory: <c>ForwardTile</c> or <c>BackwardTile</c> of the sources for each warp, and the states between.</summary>
    private LaunchGeometry TilesGeometry(int loaded, int scalars)
    {
        const int Row = sizeof(float) * LargestDim, MatrixBytes = LargestDim * (Row + (4 * sizeof(float))), LoadedBytes = LargestDim * (LargestDim + 8) * 2, CoefficientBytes = 4 * Row;
        int decayBytes = inputs.Rule.Decays ? MatrixBytes + Row : 4 * sizeof(float);
        int tile = (loaded * LoadedBytes) + MatrixBytes + CoefficientBytes + (scalars * Row) + decayBytes;
        return new LaunchGeometry(sizes.Pairs, 1, 1, TilesPerBlock * WarpThreads, 1, 1, ((TilesPerBlock + 1) * MatrixBytes) + (TilesPerBlock * tile));
    }

    private KernelName Instance(KernelName[] kernels) => kernels[(dim == LargestDim ? 1 : 0) + (inputs.Rule.Decays ? 2 : 0)];

    private static nint Address(Tensor? tensor) => tensor?.Address ?? 0;

    private Tensor? PerValueHead(Tensor input) => DeltaRuleCudaGeneral.PerValueHead(device, inputs.Sizes, input);

    /// <summary><c>SmallSizes</c> of delta_rule_small.cuh.</summary>
    [StructLayout(LayoutKind.Sequential)]
    private struct SmallSizes
    {
        public int Pairs, Heads, KeyHeads, PerKey, KeyDim, ValueDim, Time, Tiles, Rule;
        public float Scale;
    }

    /// <summary><c>SmallKept</c> of delta_rule_small.cuh.</summary>
    [StructLayout(LayoutKind.Sequential)]
    private struct KeptAddresses
    {
        public nint Coefficients, State, Update, Inverse;
    }

    /// <summary><c>SmallArgs</c> of delta_rule_small_forward.cu.</summary>
    [StructLayout(LayoutKind.Sequential)]
    private struct ForwardArguments
    {
        public nint Query, Key, Value, Beta, LogDecay, Initial, Output, FinalState;
        public KeptAddresses Kept;
        public SmallSizes Sizes;
    }

    /// <summary><c>SmallBackArgs</c> of delta_rule_small_backward.cu.</summary>
    [StructLayout(LayoutKind.Sequential)]
    private struct BackwardArguments
    {
        public nint Query, Key, Value, GradOutput, Beta, LogDecay, GradFinal, HeadQuery, HeadKey;
        public CudaTarget GradQuery, GradKey, GradValue, GradBeta, GradLogDecay, GradInitial;
        public KeptAddresses Kept;
        public nint GradState, GradUpdate;
        public SmallSizes Sizes;
    }
}
