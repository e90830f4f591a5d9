namespace ExactFlow.Operators;

public static partial class GatedRmsNorm
{
    /// <summary>RMSNorm(x) w SiLU(gate), or RMSNorm(x SiLU(gate)) w: composed of the references of its parts.</summary>
    internal static double[] Reference(double[] x, double[] gate, double[] weight, GatePlacement placement, double epsilon)
        => placement == GatePlacement.AfterNorm
            ? SwiGlu.Reference(gate, RmsNorm.Reference(x, weight, epsilon))
            : RmsNorm.Reference(SwiGlu.Reference(gate, x), weight, epsilon);

    /// <summary>The chain rule over the two parts.</summary>
    internal static (double[] X, double[] Gate, double[] Weight) ReferenceGradient(
        double[] x, double[] gate, double[] weight, GatePlacement placement, double epsilon, double[] dy)
    {
        if (placement == GatePlacement.AfterNorm)
        {
            (double[] afterGate, double[] afterNormed) = SwiGlu.ReferenceGradient(gate, RmsNorm.Reference(x, weight, epsilon), dy);
            (double[] afterX, double[] afterWeight) = RmsNorm.ReferenceGradient(x, weight, epsilon, afterNormed);
            return (afterX, afterGate, afterWeight);
        }

        (double[] dGated, double[] dWeight) = RmsNorm.ReferenceGradient(SwiGlu.Reference(gate, x), weight, epsilon, dy);
        (double[] dGate, double[] dx) = SwiGlu.ReferenceGradient(gate, x, dGated);
        return (dx, dGate, dWeight);
    }
}
