namespace ExactFlow.Operators;

public static partial class SwiGlu
{
    /// <summary>y = SiLU(gate) up.</summary>
    internal static double[] Reference(double[] gate, double[] up)
    {
        var y = new double[gate.Length];
        for (int i = 0; i < y.Length; i++)
        {
            y[i] = Elementwise.Silu(gate[i]) * up[i];
        }

        return y;
    }

    /// <summary>dgate = dy up SiLU'(gate), dup = dy SiLU(gate).</summary>
    internal static (double[] Gate, double[] Up) ReferenceGradient(double[] gate, double[] up, double[] dy)
    {
        var dGate = new double[gate.Length];
        var dUp = new double[gate.Length];
        for (int i = 0; i < gate.Length; i++)
        {
            dGate[i] = dy[i] * up[i] * Elementwise.SiluSlope(gate[i]);
            dUp[i] = dy[i] * Elementwise.Silu(gate[i]);
        }

        return (dGate, dUp);
    }
}
