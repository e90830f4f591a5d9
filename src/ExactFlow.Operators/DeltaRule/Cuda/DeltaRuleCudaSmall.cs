using System.Runtime.InteropServices;
using ExactFlow.Cuda;
using ExactFlow.Tensors;

namespace ExactFlow.Operators;

/// <summary>
/// The kernels for heads of at most 16 x 16 (<c>delta_rule_small.cu</c>): token by token, the state in registers, all scalars in the same kernel. For the
/// backward pass the states before every eighth token are kept.
/// </summary>
internal sealed class DeltaRuleCudaSmall : IDeltaRuleCudaRun
{
    /// <summary>The largest heads.</summary>
    private const int LargestDim = 16;

    /// <summary>With fewer heads of all sequences together, and longer sequences, chunks side by side are faster than one thread of tokens.</summary>
    private const int FewestHeads = 32, LongestOfFew = 256;

    private const string Source = "delta_rule_small.cu";
    private const int TileLength = 8, HeadsPerBlock = 8;

    private static readonly KernelName Forward8 = KernelName.Of("delta_small_forward_8"), Forward16 = KernelName.Of("delta_small_forward_16");
    private static readonly KernelName Backward8 = KernelName.Of("delta_small_backward_8"), Backward16 = KernelName.Of("delta_small_backward_16");

    private readonly CudaDevice device;
    private readonly DeltaRuleCudaInputs inputs;
    private readonly SmallSizes sizes;
    private readonly int dim;
    private readonly Tensor? boundary;

    /// <summary>Takes the memory that the forward needs.</summary>
    /// <param name="device">The GPU.</param>
    /// <param name="inputs">What the operator was called with; <see cref="Takes"/> them.</param>
    /// <param name="keep">Whether a backward will follow.</param>
    public DeltaRuleCudaSmall(CudaDevice device, in DeltaRuleCudaInputs inputs, bool keep)
    {
        (this.device, this.inputs) = (device, inputs);
        DeltaRuleSizes given = inputs.Sizes;
        int tiles = (given.Time + TileLength - 1) / TileLength;
        sizes = new SmallSizes
        {
            Pairs = (long)given.Batch * given.ValueHeads, Heads = given.ValueHeads, KeyHeads = given.KeyHeads, KeyDim = given.KeyDim, ValueDim = given.ValueDim,
            Time = given.Time, Tiles = tiles, Rule = DeltaRuleCuda.NumberOf(inputs.Rule), Scale = inputs.Scale,
        };
        dim = Math.Max(given.KeyDim, given.ValueDim) <= 8 ? 8 : LargestDim;
        boundary = keep ? device.Empty([checked((int)sizes.Pairs), tiles, dim, dim]) : null;
    }

    private LaunchGeometry Geometry => new(checked((int)((sizes.Pairs + HeadsPerBlock - 1) / HeadsPerBlock)), 1, 1, dim * HeadsPerBlock, 1, 1, 0);

    /// <summary>Whether these kernels are for such a call.</summary>
    public static bool Takes(in DeltaRuleSizes sizes, SequenceOffsets? offsets)
        => offsets is null && Math.Max(sizes.KeyDim, sizes.ValueDim) <= LargestDim && (sizes.Batch * sizes.ValueHeads >= FewestHeads || sizes.Time <= LongestOfFew);

    /// <inheritdoc/>
    public void Forward(Tensor? output, Tensor? finalState)
        => CudaLaunch.Run(device, Source, dim == 8 ? Forward8 : Forward16, inputs.Value.DType, Geometry, new ForwardArguments
        {
            Query = inputs.Query.Address, Key = inputs.Key.Address, Value = inputs.Value.Address, Beta = Address(inputs.Beta), LogDecay = Address(inputs.LogDecay),
            Initial = Address(inputs.InitialState), Output = output!.Address, FinalState = Address(finalState), Boundary = Address(boundary), Sizes = sizes,
        });

    /// <inheritdoc/>
    public void Backward(Tensor? output, Tensor? finalState)
    {
        Tensor gradOutput = output!.Grad ?? device.Zeros(output.Shape, output.DType);
        DeltaRuleSizes given = inputs.Sizes;
        using Tensor? headQuery = PerValueHead(inputs.Query), headKey = PerValueHead(inputs.Key);

        // In the order in which the kernel writes, in case two of them are one tensor: a later one adds.
        CudaTarget value = CudaTarget.Of(inputs.Value), query = CudaTarget.Of(inputs.Query), key = CudaTarget.Of(inputs.Key);
        CudaLaunch.Run(device, Source, dim == 8 ? Backward8 : Backward16, inputs.Value.DType, Geometry, new BackwardArguments
        {
            Query = inputs.Query.Address, Key = inputs.Key.Address, Value = inputs.Value.Address, GradOutput = gradOutput.Address, Beta = Address(inputs.Beta),
            LogDecay = Address(inputs.LogDecay), Boundary = boundary!.Address, GradFinal = Address(finalState?.Grad), HeadQuery = Address(headQuery), HeadKey = Address(headKey),
            GradQuery = query, GradKey = key, GradValue = value, GradBeta = CudaTarget.Of(inputs.Beta), GradLogDecay = CudaTarget.Of(inputs.LogDecay),
            GradInitial = CudaTarget.Of(inputs.InitialState), Sizes = sizes, Decays = inputs.Rule.Decays ? 1 : 0,
        });
        DeltaRuleCudaGeneral.SumHeads(device, inputs.Value.DType, given, headQuery, query);
        DeltaRuleCudaGeneral.SumHeads(device, inputs.Value.DType, given, headKey, key);
        boundary.Dispose();
    }

    private static nint Address(Tensor? tensor) => tensor?.Address ?? 0;

    private Tensor? PerValueHead(Tensor input) => DeltaRuleCudaGeneral.PerValueHead(device, inputs.Sizes, input);

    /// <summary><c>SmallSizes</c> of delta_rule_small.cu.</summary>
    [StructLayout(LayoutKind.Sequential)]
    private struct SmallSizes
    {
        public long Pairs;
        public int Heads, KeyHeads, KeyDim, ValueDim, Time, Tiles, Rule;
        public float Scale;
    }

    /// <summary><c>SmallArgs</c> of delta_rule_small.cu.</summary>
    [StructLayout(LayoutKind.Sequential)]
    private struct ForwardArguments
    {
        public nint Query, Key, Value, Beta, LogDecay, Initial, Output, FinalState, Boundary;
        public SmallSizes Sizes;
    }

    /// <summary><c>SmallBackArgs</c> of delta_rule_small.cu.</summary>
    [StructLayout(LayoutKind.Sequential)]
    private struct BackwardArguments
    {
        public nint Query, Key, Value, GradOutput, Beta, LogDecay, Boundary, GradFinal, HeadQuery, HeadKey;
        public CudaTarget GradQuery, GradKey, GradValue, GradBeta, GradLogDecay, GradInitial;
        public SmallSizes Sizes;
        public int Decays;
    }
}
