namespace ExactFlow.Operators;

public static partial class LogDecay
{
    /// <summary>y = -exp(A_log) softplus(a + dt_bias), A_log and dt_bias per head.</summary>
    internal static double[] Reference(double[] a, double[] aLog, double[] dtBias)
    {
        int heads = aLog.Length;
        var y = new double[a.Length];
        for (int i = 0; i < a.Length; i++)
        {
            y[i] = -Math.Exp(aLog[i % heads]) * Elementwise.Softplus(a[i] + dtBias[i % heads]);
        }

        return y;
    }

    /// <summary>da = -dy exp(A_log) sigmoid(a + dt_bias); dA_log = sum over tokens of dy y; ddt_bias = sum over tokens of da.</summary>
    internal static (double[] A, double[] ALog, double[] DtBias) ReferenceGradient(double[] a, double[] aLog, double[] dtBias, double[] dy)
    {
        int heads = aLog.Length;
        var da = new double[a.Length];
        var dALog = new double[heads];
        var dDtBias = new double[heads];
        for (int i = 0; i < a.Length; i++)
        {
            double rate = -Math.Exp(aLog[i % heads]);
            da[i] = dy[i] * rate * Elementwise.Sigmoid(a[i] + dtBias[i % heads]);
            dALog[i % heads] += dy[i] * rate * Elementwise.Softplus(a[i] + dtBias[i % heads]);
            dDtBias[i % heads] += da[i];
        }

        return (da, dALog, dDtBias);
    }
}
