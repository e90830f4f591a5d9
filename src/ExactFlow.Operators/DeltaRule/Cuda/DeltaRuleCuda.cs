using System.Reflection;
using ExactFlow.Cuda;
using ExactFlow.Tensors;

namespace ExactFlow.Operators;

/// <summary>
/// The delta rule on a GPU (compute capability 9.0), bfloat16 operands, float32 scalars and states: <c>prepare</c> makes what does not depend on the state,
/// <c>scan</c> carries the state through the chunks, and backwards <c>dscan</c> and <c>grads</c>. The kernels explain themselves in <c>delta_rule_*.cuh</c>.
/// </summary>
internal static unsafe class DeltaRuleCuda
{
    private const int TileBytes = 64 * 64 * 2;
    private static readonly Assembly Sources = typeof(DeltaRuleCuda).Assembly;

    /// <summary>The kernels' numbers of the rules.</summary>
    private static readonly string[] RuleNumbers =
    [
        "efla", "deltanet", "implicit_euler", "cayley", "rk2", "rk4", "explicit_euler", "linear_attention", "mamba2", "gated_deltanet", "gated_efla", "log_rate_gated_efla",
    ];

    /// <summary>Runs the recurrence and records its gradient; see <see cref="DeltaRule.Apply"/>.</summary>
    /// <param name="segments">Segments per sequence, or 0 to choose.</param>
    public static DeltaRuleResult Apply(
        CudaDevice device, DeltaRuleKind rule, Tensor q, Tensor k, Tensor v, Tensor? beta, Tensor? logDecay, DeltaRuleOptions options, int segments = 0)
    {
        Tensor? initialState = options.InitialState;
        DeltaRuleSizes sizes = DeltaRuleShapes.Check(
            rule, q.Shape, k.Shape, v.Shape, beta?.Shape, logDecay?.Shape, options.Offsets, initialState?.Shape, options.ChunkLength);
        bool record = device.CurrentStep is { RecordsGradients: true } && (q.RequiresGrad || k.RequiresGrad || v.RequiresGrad || beta is { RequiresGrad: true }
            || logDecay is { RequiresGrad: true } || initialState is { RequiresGrad: true });
        RequireSupported(device, q, k, v, sizes);
        DeltaRuleCudaPlan plan = DeltaRuleCudaPlan.For(sizes, options.Offsets, DeltaRuleCudaRun.ChunkLength, device.MultiprocessorCount, segments);
        var run = new DeltaRuleCudaRun(device, rule, sizes, plan, q, k, v, beta, logDecay, initialState, options.Scale ?? 1 / MathF.Sqrt(sizes.KeyDim), keep: record);
        Tensor output = device.Empty(v.Shape, DType.BFloat16);
        Tensor? finalState = options.WantFinalState ? device.Empty(DeltaRuleShapes.State(sizes, options.Offsets)) : null;
        run.Forward(output, finalState);
        if (record)
        {
            device.CurrentStep!.Tape.Record(output, finalState, () => run.Backward(output, finalState));
        }

        return new DeltaRuleResult(output, finalState);
    }

    /// <summary>The number by which the kernels know a rule.</summary>
    public static int NumberOf(DeltaRuleKind rule) => Array.IndexOf(RuleNumbers, rule.Name);

    /// <summary>Launches a kernel of the operator with one argument block.</summary>
    public static void Launch<T>(CudaDevice device, string source, string kernel, LaunchGeometry geometry, T arguments)
        where T : unmanaged
    {
        CudaFunction function = device.Kernels.Function(Sources, source, kernel, geometry.SharedBytes);
        nint address = (nint)(&arguments);
        device.Launch(function, geometry, [address]);
    }

    /// <summary>Dynamic shared memory of each kernel, as its <c>Shared</c> structure (plus room to align it to 1,024 bytes).</summary>
    public static (int Prepare, int Scan, int Combine, int BackwardScan, int Gradients) SharedBytes(int keyDim)
    {
        int tiles = keyDim / 64;
        const int Scalars = 64 * 16;
        int scan = (2 * ((((2 * tiles) + 3) * TileBytes) + Scalars)) + ((tiles + 3) * TileBytes) + 1024;
        int gradients = (4 * tiles * TileBytes) + (2 * (3 + (2 * tiles)) * TileBytes) + (4 * TileBytes) + (2 * Scalars) + (6 * 64 * 4) + 16 + 1024;
        int front = Math.Max(64 * (keyDim + 8) * 4, ((64 * 68) + 960) * 4);
        return (front + (64 * 68 * 4) + (3 * 64 * 4), scan, (2 * keyDim * (keyDim + 4) * 4) + (keyDim * 20 * 4), scan, gradients);
    }

    private static void RequireSupported(CudaDevice device, Tensor q, Tensor k, Tensor v, DeltaRuleSizes sizes)
    {
        if (q.DType != DType.BFloat16 || k.DType != DType.BFloat16 || v.DType != DType.BFloat16)
        {
            throw new InvalidInputException($"The delta rule on {device.Name} takes q, k and v in bfloat16, but they are {q.DType}, {k.DType} and {v.DType}: convert them first, or use --device cpu.");
        }

        if (sizes.KeyDim is not (64 or 128) || sizes.ValueDim % 64 != 0)
        {
            throw new InvalidInputException(
                $"The delta rule on {device.Name} takes keys of 64 or 128 and values of a multiple of 64 per head, but they are {sizes.KeyDim} and {sizes.ValueDim}: choose such sizes, or use --device cpu.");
        }

        if (device.ComputeCapability < new Version(9, 0))
        {
            throw new InvalidInputException($"The delta rule needs a GPU of compute capability 9.0 (H100) or newer, but {device.ModelName} has {device.ComputeCapability}: use --device cpu.");
        }
    }
}
