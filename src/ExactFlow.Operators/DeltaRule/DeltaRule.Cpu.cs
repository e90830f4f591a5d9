using System.Numerics;
using ExactFlow.Tensors;
using ExactFlow.Tensors.Memory;
using ExactFlow.Tensors.Simd;

namespace ExactFlow.Operators;

/// <summary>
/// The forms on the CPU: from the name of a form, a precision and a SIMD level to the code that runs it.
/// <see cref="DeltaRuleForm.Auto"/> is the chunkwise form, except for a few tokens.
/// </summary>
internal static unsafe class DeltaRuleForms
{
    /// <summary>Up to this many tokens a chunk does not pay for its preparation.</summary>
    private const int ShortSequence = 8;

    /// <summary>Runs the forward pass on float32 tensors.</summary>
    public static void Forward(CpuDevice device, DeltaRuleForm form, in DeltaRuleCall<float> call)
    {
        if (form == DeltaRuleForm.Reference)
        {
            using var wide = new CastCall<float, double>(call);
            DeltaRuleReference.Forward(wide.Call);
            wide.CopyOutputsTo(call);
            return;
        }

        switch (Simd.Level)
        {
            case SimdLevel.V512:
                Forward<FloatLanes<V512>, float>(device, form, call);
                break;
            case SimdLevel.V256:
                Forward<FloatLanes<V256>, float>(device, form, call);
                break;
            case SimdLevel.V128:
                Forward<FloatLanes<V128>, float>(device, form, call);
                break;
            default:
                Forward<FloatLanes<V1>, float>(device, form, call);
                break;
        }
    }

    /// <summary>Runs the backward pass on float32 tensors.</summary>
    public static void Backward(CpuDevice device, DeltaRuleForm form, in DeltaRuleCall<float> call)
    {
        if (form == DeltaRuleForm.Reference)
        {
            using var wide = new CastCall<float, double>(call);
            DeltaRuleReference.Backward(wide.Call);
            wide.CopyGradientsTo(call);
            return;
        }

        switch (Simd.Level)
        {
            case SimdLevel.V512:
                Backward<FloatLanes<V512>, float>(device, form, call);
                break;
            case SimdLevel.V256:
                Backward<FloatLanes<V256>, float>(device, form, call);
                break;
            case SimdLevel.V128:
                Backward<FloatLanes<V128>, float>(device, form, call);
                break;
            default:
                Backward<FloatLanes<V1>, float>(device, form, call);
                break;
        }
    }

    /// <summary>Forward and, if an output gradient is given, backward, of inputs in float64 in either precision.</summary>
    public static void Solve(CpuDevice device, DeltaRuleForm form, DeltaRulePrecision precision, in DeltaRuleCall<double> call)
    {
        if (precision == DeltaRulePrecision.Float64)
        {
            SolveFloat64(device, form, call);
            return;
        }

        using var narrow = new CastCall<double, float>(call);
        DeltaRuleCall<float> cast = narrow.Call;
        using var states = ChunkStates(device, form, ref cast);
        Forward(device, form, cast);
        narrow.CopyOutputsTo(call);
        if (call.HasGradients)
        {
            Backward(device, form, cast);
            narrow.CopyGradientsTo(call);
        }
    }

    /// <summary>The reference form.</summary>
    public static void SolveReference(in DeltaRuleCall<double> call)
    {
        DeltaRuleReference.Forward(call);
        if (call.HasGradients)
        {
            DeltaRuleReference.Backward(call);
        }
    }

    private static void SolveFloat64(CpuDevice device, DeltaRuleForm form, DeltaRuleCall<double> call)
    {
        if (form == DeltaRuleForm.Reference)
        {
            SolveReference(call);
            return;
        }

        using var states = ChunkStates(device, form, ref call);
        Forward<DoubleLanes, double>(device, form, call);
        if (call.HasGradients)
        {
            Backward<DoubleLanes, double>(device, form, call);
        }
    }

    private static Scratch ChunkStates<T>(CpuDevice device, DeltaRuleForm form, ref DeltaRuleCall<T> call)
        where T : unmanaged, IFloatingPointIeee754<T>
    {
        bool isNeeded = form != DeltaRuleForm.Reference && call.HasGradients;
        var scratch = new Scratch(device, isNeeded ? (long)call.ChunkCount * call.Sizes.ValueHeads * call.Sizes.StateSize * sizeof(T) : 0);
        call.ChunkStates = isNeeded ? (T*)scratch.Address : null;
        return scratch;
    }

    private static void Forward<TL, T>(CpuDevice device, DeltaRuleForm form, in DeltaRuleCall<T> call)
        where TL : struct, ILanes<TL, T>
        where T : unmanaged, IFloatingPointIeee754<T>
    {
        if (form == DeltaRuleForm.Recurrent || (form == DeltaRuleForm.Auto && call.Sizes.Time <= ShortSequence))
        {
            DeltaRuleRecurrent<TL, T>.Forward(device, call);
        }
        else
        {
            DeltaRuleChunkwise<TL, T>.Forward(device, call);
        }
    }

    private static void Backward<TL, T>(CpuDevice device, DeltaRuleForm form, in DeltaRuleCall<T> call)
        where TL : struct, ILanes<TL, T>
        where T : unmanaged, IFloatingPointIeee754<T>
    {
        if (form == DeltaRuleForm.Recurrent)
        {
            DeltaRuleRecurrent<TL, T>.Backward(device, call);
        }
        else
        {
            DeltaRuleChunkwise<TL, T>.Backward(device, call);
        }
    }
}
