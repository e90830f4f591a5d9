using System.Runtime.InteropServices;
using ExactFlow.Cuda;
using ExactFlow.Tensors;

namespace ExactFlow.Operators;

/// <summary>
/// One token further in a delta-family mixer, from its projections to the input of its last one: convolutions, norms, coefficients, recurrence, output norm
/// and gate in one kernel, states updated in place.
/// </summary>
internal static class DecodeMixer
{
    private const string Source = "decode_mixer.cu";
    private const int Threads = 256;
    private const int Warps = Threads / 32;

    /// <summary>Runs it.</summary>
    /// <param name="device">Where everything lives.</param>
    /// <param name="layer">Sizes, weights and states of the layer.</param>
    /// <param name="projected">Float32 <c>[batch, columns]</c>.</param>
    /// <param name="y">Receives bfloat16 <c>[batch, heads * valueDim or more]</c>.</param>
    public static void Run(CudaDevice device, in DecodeMixerLayer layer, Tensor projected, Tensor y)
    {
        int keyDim = layer.KeyDim, valueDim = layer.ValueDim;
        int width = layer.QueryFilter.Shape[1];
        int channels = (2 * keyDim) + valueDim;
        int sharedBytes = ((channels * 2 * width) + (((2 * Warps) + 2) * valueDim) + Warps) * sizeof(float);
        var arguments = new Arguments
        {
            Projected = projected.Address,
            ProjectedStride = projected.Shape[1],
            QueryFilter = layer.QueryFilter.Address,
            KeyFilter = layer.KeyFilter.Address,
            ValueFilter = layer.ValueFilter.Address,
            QueryState = layer.QueryState.Address,
            KeyState = layer.KeyState.Address,
            ValueState = layer.ValueState.Address,
            LogRate = layer.LogRate?.Address ?? 0,
            RateBias = layer.RateBias?.Address ?? 0,
            Norm = layer.Norm.Address,
            Memory = layer.Memory.Address,
            Y = y.Address,
            YStride = y.Shape[1],
            QueryColumn = layer.Columns.Query,
            KeyColumn = layer.Columns.Key,
            ValueColumn = layer.Columns.Value,
            BetaColumn = layer.Columns.Beta,
            DecayColumn = layer.Columns.Decay,
            GateColumn = layer.Columns.Gate,
            Rule = DeltaRuleCuda.NumberOf(layer.Rule),
            Heads = layer.Heads,
            KeyHeads = layer.KeyHeads,
            KeyDim = keyDim,
            ValueDim = valueDim,
            Width = width,
            NormalizeKeys = layer.NormalizeKeys ? 1 : 0,
            BetaScale = layer.DoubleStepSize ? 2 : 1,
            Scale = 1 / MathF.Sqrt(keyDim),
            Epsilon = layer.Epsilon,
        };
        string kernel = valueDim % 4 != 0 || valueDim > 128 || width != 4 ? "decode_mixer_any" : keyDim switch { 64 => "decode_mixer_64", 128 => "decode_mixer_128", _ => "decode_mixer_any" };
        var geometry = new LaunchGeometry(projected.Shape[0] * layer.KeyHeads, 1, 1, Threads, 1, 1, sharedBytes) { BeginsEarly = true };
        CudaLaunch.Run(device, Source, kernel, geometry, arguments);
    }

    /// <summary><c>MixerArgs</c> of the kernels.</summary>
    [StructLayout(LayoutKind.Sequential)]
    private struct Arguments
    {
        public nint Projected;
        public long ProjectedStride;
        public nint QueryFilter, KeyFilter, ValueFilter;
        public nint QueryState, KeyState, ValueState;
        public nint LogRate, RateBias, Norm;
        public nint Memory;
        public nint Y;
        public long YStride;
        public int QueryColumn, KeyColumn, ValueColumn, BetaColumn, DecayColumn, GateColumn;
        public int Rule, Heads, KeyHeads, KeyDim, ValueDim, Width, NormalizeKeys;
        public float BetaScale, Scale, Epsilon;
    }
}
