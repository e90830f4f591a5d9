using ExactFlow.Tensors;

namespace ExactFlow.Operators;

/// <summary>From the name of a form and a precision to the code that runs it.</summary>
internal static unsafe class DeltaRuleForms
{
    /// <summary>Runs the forward pass in float32 (the reference form in float64 inside).</summary>
    public static void Forward(CpuDevice device, DeltaRuleForm form, in DeltaRuleCall<float> call)
    {
        using var wide = new CastCall<float, double>(call);
        DeltaRuleReference.Forward(wide.Call);
        wide.CopyOutputsTo(call);
    }

    /// <summary>Runs the backward pass in float32.</summary>
    public static void Backward(CpuDevice device, DeltaRuleForm form, in DeltaRuleCall<float> call)
    {
        using var wide = new CastCall<float, double>(call);
        DeltaRuleReference.Backward(wide.Call);
        wide.CopyGradientsTo(call);
    }

    /// <summary>Forward and, if an output gradient is given, backward, of inputs in float64 in either precision.</summary>
    public static void Solve(CpuDevice device, DeltaRuleForm form, DeltaRulePrecision precision, in DeltaRuleCall<double> call)
    {
        DeltaRuleReference.Forward(call);
        if (call.GradOutput != null)
        {
            DeltaRuleReference.Backward(call);
        }
    }
}
