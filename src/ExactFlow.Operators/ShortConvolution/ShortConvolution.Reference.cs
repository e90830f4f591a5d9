namespace ExactFlow.Operators;

public static partial class ShortConvolution
{
    /// <summary>
    /// z[t, c] = bias[c] + sum_j weight[c, j] x[t - (width - 1) + j, c], y = SiLU(z) or z, for every sequence [offsets[i], offsets[i + 1]) of tokens;
    /// what lies before a sequence is its state, or zero.
    /// </summary>
    internal static double[] Reference(double[] x, double[] weight, double[]? bias, bool silu, double[]? state, int[] offsets, int channels)
    {
        double[] z = PreActivations(x, weight, bias, state, offsets, channels);
        return silu ? Array.ConvertAll(z, Elementwise.Silu) : z;
    }

    /// <summary>The state after the call: the last width - 1 tokens of state and sequence together, oldest first.</summary>
    internal static double[] ReferenceState(double[] x, double[] state, int[] offsets, int channels, int width)
    {
        var result = new double[state.Length];
        for (int sequence = 0; sequence + 1 < offsets.Length; sequence++)
        {
            for (int channel = 0; channel < channels; channel++)
            {
                for (int i = 0; i < width - 1; i++)
                {
                    int token = offsets[sequence + 1] - (width - 1) + i;
                    result[(((sequence * channels) + channel) * (width - 1)) + i] = At(x, state, offsets, sequence, token, channel, channels, width);
                }
            }
        }

        return result;
    }

    /// <summary>With dz = dy SiLU'(z): dx[t] = sum_j weight[j] dz[t + (width - 1) - j], dweight[j] = sum_t dz[t] x[t - (width - 1) + j], dbias = sum_t dz[t].</summary>
    internal static (double[] X, double[] Weight, double[] Bias) ReferenceGradient(
        double[] x, double[] weight, double[]? bias, bool silu, int[] offsets, int channels, double[] dy)
    {
        int width = weight.Length / channels;
        double[] z = PreActivations(x, weight, bias, null, offsets, channels);
        var dx = new double[x.Length];
        var dWeight = new double[weight.Length];
        var dBias = new double[channels];
        for (int sequence = 0; sequence + 1 < offsets.Length; sequence++)
        {
            for (int token = offsets[sequence]; token < offsets[sequence + 1]; token++)
            {
                for (int channel = 0; channel < channels; channel++)
                {
                    int position = (token * channels) + channel;
                    double dz = dy[position] * (silu ? Elementwise.SiluSlope(z[position]) : 1);
                    dBias[channel] += dz;
                    for (int tap = 0; tap < width; tap++)
                    {
                        int source = token - (width - 1) + tap;
                        if (source >= offsets[sequence])
                        {
                            dx[(source * channels) + channel] += weight[(channel * width) + tap] * dz;
                            dWeight[(channel * width) + tap] += x[(source * channels) + channel] * dz;
                        }
                    }
                }
            }
        }

        return (dx, dWeight, dBias);
    }

    private static double[] PreActivations(double[] x, double[] weight, double[]? bias, double[]? state, int[] offsets, int channels)
    {
        int width = weight.Length / channels;
        var z = new double[x.Length];
        for (int sequence = 0; sequence + 1 < offsets.Length; sequence++)
        {
            for (int token = offsets[sequence]; token < offsets[sequence + 1]; token++)
            {
                for (int channel = 0; channel < channels; channel++)
                {
                    double sum = bias?[channel] ?? 0;
                    for (int tap = 0; tap < width; tap++)
                    {
                        sum += weight[(channel * width) + tap] * At(x, state, offsets, sequence, token - (width - 1) + tap, channel, channels, width);
                    }

                    z[(token * channels) + channel] = sum;
                }
            }
        }

        return z;
    }

    private static double At(double[] x, double[]? state, int[] offsets, int sequence, int token, int channel, int channels, int width)
    {
        if (token >= offsets[sequence])
        {
            return x[(token * channels) + channel];
        }

        int kept = width - 1;
        return state is null ? 0 : state[(((sequence * channels) + channel) * kept) + kept - (offsets[sequence] - token)];
    }
}
