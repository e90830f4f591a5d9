namespace ExactFlow.Operators;

/// <summary>Where <see cref="GatedRmsNorm"/> multiplies by SiLU(gate).</summary>
public enum GatePlacement
{
    /// <summary>RMSNorm(x) * weight * SiLU(gate): gated delta-rule layers.</summary>
    AfterNorm,

    /// <summary>RMSNorm(x * SiLU(gate)) * weight: Mamba-2.</summary>
    BeforeNorm,
}
