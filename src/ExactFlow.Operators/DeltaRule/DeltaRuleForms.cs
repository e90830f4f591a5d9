using ExactFlow.Tensors;
using ExactFlow.Tensors.Memory;
using ExactFlow.Tensors.Simd;

namespace ExactFlow.Operators;

/// <summary>From the name of a form and a precision to the code that runs it.</summary>
internal static unsafe class DeltaRuleForms
{
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
        if (call.GradOutput != null)
        {
            Backward(device, form, cast);
            narrow.CopyGradientsTo(call);
        }
    }

    private static void SolveFloat64(CpuDevice device, DeltaRuleForm form, DeltaRuleCall<double> call)
    {
        if (form == DeltaRuleForm.Reference)
        {
            DeltaRuleReference.Forward(call);
            if (call.GradOutput != null)
            {
                DeltaRuleReference.Backward(call);
            }

            return;
        }

        using var states = ChunkStates(device, form, ref call);
        Forward<DoubleLanes, double>(device, form, call);
        if (call.GradOutput != null)
        {
            Backward<DoubleLanes, double>(device, form, call);
        }
    }

    private static Scratch ChunkStates<T>(CpuDevice device, DeltaRuleForm form, ref DeltaRuleCall<T> call)
        where T : unmanaged, System.Numerics.IFloatingPointIeee754<T>
    {
        bool isNeeded = form != DeltaRuleForm.Reference && call.GradOutput != null;
        var scratch = new Scratch(device, isNeeded ? (long)call.ChunkCount * call.Sizes.ValueHeads * call.Sizes.StateSize * sizeof(T) : 0);
        call.ChunkStates = isNeeded ? (T*)scratch.Address : null;
        return scratch;
    }

    private static void Forward<TL, T>(CpuDevice device, DeltaRuleForm form, in DeltaRuleCall<T> call)
        where TL : struct, ILanes<TL, T>
        where T : unmanaged, System.Numerics.IFloatingPointIeee754<T>
        => DeltaRuleChunkwise<TL, T>.Forward(device, call);

    private static void Backward<TL, T>(CpuDevice device, DeltaRuleForm form, in DeltaRuleCall<T> call)
        where TL : struct, ILanes<TL, T>
        where T : unmanaged, System.Numerics.IFloatingPointIeee754<T>
        => DeltaRuleChunkwise<TL, T>.Backward(device, call);
}
