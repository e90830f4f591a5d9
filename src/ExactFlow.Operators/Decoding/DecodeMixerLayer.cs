using ExactFlow.Tensors;

namespace ExactFlow.Operators;

/// <summary>A delta-family mixer as <see cref="DecodeMixer"/> needs it.</summary>
internal sealed record DecodeMixerLayer
{
    /// <summary>The rule of the recurrence.</summary>
    public required DeltaRuleKind Rule { get; init; }

    /// <summary>Where each projection's result begins in a row of projections.</summary>
    public required DecodeMixerColumns Columns { get; init; }

    /// <summary>Heads with a state.</summary>
    public required int Heads { get; init; }

    /// <summary>Heads of queries and keys; divides <see cref="Heads"/>.</summary>
    public required int KeyHeads { get; init; }

    /// <summary>K.</summary>
    public required int KeyDim { get; init; }

    /// <summary>V.</summary>
    public required int ValueDim { get; init; }

    /// <summary>Whether keys are scaled to unit length before the rule sees them.</summary>
    public bool NormalizeKeys { get; init; }

    /// <summary>Whether step sizes reach 2.</summary>
    public bool DoubleStepSize { get; init; }

    /// <summary>Epsilon of the output norm.</summary>
    public required float Epsilon { get; init; }

    /// <summary>Convolution of the queries, float32 <c>[keyHeads * K, width]</c>.</summary>
    public required Tensor QueryFilter { get; init; }

    /// <summary>Convolution of the keys, float32 <c>[keyHeads * K, width]</c>.</summary>
    public required Tensor KeyFilter { get; init; }

    /// <summary>Convolution of the values, float32 <c>[heads * V, width]</c>.</summary>
    public required Tensor ValueFilter { get; init; }

    /// <summary>The queries' last inputs, float32 <c>[batch, keyHeads * K, width - 1]</c>.</summary>
    public required Tensor QueryState { get; init; }

    /// <summary>The keys' last inputs.</summary>
    public required Tensor KeyState { get; init; }

    /// <summary>The values' last inputs.</summary>
    public required Tensor ValueState { get; init; }

    /// <summary>S, float32 <c>[batch, heads, K, V]</c>.</summary>
    public required Tensor Memory { get; init; }

    /// <summary>A_log, float32 <c>[heads]</c>; null for rules that do not decay.</summary>
    public Tensor? LogRate { get; init; }

    /// <summary>dt_bias, float32 <c>[heads]</c>; null for rules that do not decay.</summary>
    public Tensor? RateBias { get; init; }

    /// <summary>Weight of the output norm, float32 <c>[V]</c>.</summary>
    public required Tensor Norm { get; init; }
}

/// <summary>Columns at which the projections of a mixer's input lie; -1 for those it does not have.</summary>
internal readonly record struct DecodeMixerColumns(int Query, int Key, int Value, int Beta, int Decay, int Gate);
