using System.Runtime.InteropServices;

namespace ExactFlow.Operators;

/// <summary>The arguments of the kernels, field for field as in the <c>.cuh</c> files; addresses are device addresses, 0 for none.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct PrepareArguments
{
    public nint Query, Key, Beta, LogDecay, Chunks, Inverse, Attention, Scalars, BackwardScalars;
    public int Rule, Heads, KeyHeads;
}

/// <inheritdoc cref="PrepareArguments"/>
[StructLayout(LayoutKind.Sequential)]
internal struct ScanArguments
{
    public nint Query, Key, Value, Inverse, Attention, Scalars, Chunks, Ranges, Initial, Output, FinalState, Boundary, Update, Transition;
    public float Scale;
    public int Heads, KeyHeads, ValueDim, Segments;
}

/// <inheritdoc cref="PrepareArguments"/>
[StructLayout(LayoutKind.Sequential)]
internal struct CombineArguments
{
    public nint Transition, ZeroStates, Initial, Starts;
    public int Heads, ValueDim, Segments;
}

/// <inheritdoc cref="PrepareArguments"/>
[StructLayout(LayoutKind.Sequential)]
internal struct BackwardArguments
{
    public nint Query, Key, Value, GradOutput, Inverse, Attention, Scalars, BackwardScalars, Chunks, Ranges, GradFinal, GradInitial, GradBoundary, GradSolve, Boundary, Update;
    public nint GradQuery, GradKey, GradValue, GradBeta, GradLogDecay, Beta, LogDecay;
    public float Scale;
    public int Heads, KeyHeads, ValueDim, Segments, Rule, Gated, TotalChunks;
}

/// <inheritdoc cref="PrepareArguments"/>
[StructLayout(LayoutKind.Sequential)]
internal struct SumHeadsArguments
{
    public nint From, To;
    public long Count;
    public int Heads, KeyHeads, HalfDim;
}

/// <summary>Heads of a call; <c>Sizes</c> of delta_rule_general.cuh.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct GeneralSizes
{
    public int Heads, KeyHeads, KeyDim, ValueDim;
}

/// <inheritdoc cref="PrepareArguments"/>
[StructLayout(LayoutKind.Sequential)]
internal struct GeneralPrepareArguments
{
    public nint Query, Key, Beta, LogDecay, Chunks, Inverse, Attention, Scan, Tokens;
    public GeneralSizes Sizes;
    public int Rule;
}

/// <inheritdoc cref="PrepareArguments"/>
[StructLayout(LayoutKind.Sequential)]
internal struct GeneralScanArguments
{
    public nint Query, Key, Value, Inverse, Attention, Scan, Chunks, Ranges, Initial, Output, FinalState, Boundary, Update;
    public GeneralSizes Sizes;
    public float Scale;
}

/// <inheritdoc cref="PrepareArguments"/>
[StructLayout(LayoutKind.Sequential)]
internal struct GeneralBackwardArguments
{
    public nint Query, Key, Value, GradOutput, Inverse, Attention, Scan, Tokens, Chunks, Ranges, Beta, LogDecay, GradFinal, GradBoundary, GradSolve, Boundary, Update, HeadQuery, HeadKey;
    public CudaTarget GradQuery, GradKey, GradValue, GradBeta, GradLogDecay, GradInitial;
    public GeneralSizes Sizes;
    public float Scale;
    public int Rule, Decays;
}

/// <inheritdoc cref="PrepareArguments"/>
[StructLayout(LayoutKind.Sequential)]
internal struct GeneralSumArguments
{
    public nint From;
    public CudaTarget To;
    public long Count;
    public int Group, KeyDim;
}

/// <inheritdoc cref="PrepareArguments"/>
[StructLayout(LayoutKind.Sequential)]
internal struct StepArguments
{
    public nint Query, Key, Value, Beta, LogDecay, State, Output;
    public int Heads, KeyHeads, KeyDim, ValueDim, Time, Rule;
    public float Scale;
}
