using System.Runtime.CompilerServices;
using ExactFlow.Tensors;
using ExactFlow.Tensors.Simd;

namespace ExactFlow.Operators;

/// <summary>Where a kernel writes the gradient of one input: nowhere, over undefined memory, or added to what is there.</summary>
internal readonly unsafe struct GradientTarget
{
    private GradientTarget(float* address, bool accumulate)
    {
        Address = address;
        Accumulate = accumulate;
    }

    /// <summary>First element, or null when the input wants no gradient.</summary>
    public float* Address { get; }

    /// <summary>Whether to add instead of overwriting.</summary>
    public bool Accumulate { get; }

    /// <summary>Whether a gradient is wanted.</summary>
    public bool IsWanted => Address != null;

    /// <summary>Asks an input for its gradient (on the CPU). Call it once per input and backward pass, since the next call accumulates.</summary>
    public static GradientTarget Of(Tensor? input)
    {
        if (input is not { RequiresGrad: true })
        {
            return default;
        }

        Tensor gradient = input.GradForWrite(out bool accumulate);
        return new GradientTarget(gradient.Floats, accumulate);
    }

    /// <summary>Writes or adds a vector of values from element <paramref name="position"/> on, or its first <paramref name="count"/> lanes; nothing when not wanted.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public void Write<TV, TLanes>(TV value, long position, int count)
        where TV : struct, IFloatVector<TV>
        where TLanes : struct, ILanes
    {
        if (IsWanted)
        {
            float* target = Address + position;
            TLanes.Store(Accumulate ? TLanes.Load<TV>(target, count) + value : value, target, count);
        }
    }
}
