namespace ExactFlow.Models.Tests;

/// <summary>
/// The language models in float64, plain loops, written from the equations alone: no operator of the project takes part.
/// Parameters are found by the names that files use.
/// </summary>
internal sealed class ReferenceModel
{
    private readonly LanguageModelConfig config;
    private readonly Dictionary<string, double[]> weights;

    public ReferenceModel(LanguageModel model)
    {
        config = model.Config;
        weights = model.Layout.Parameters.ToDictionary(parameter => parameter.Name, parameter => Array.ConvertAll(parameter.Value.ToHost<float>(), value => (double)value));
    }

    /// <summary>The weights, which a test may change in place.</summary>
    public IReadOnlyDictionary<string, double[]> Weights => weights;

    private bool IsMamba => config.Mixer.Family == MixerFamily.Mamba2;

    private string Root => IsMamba ? "backbone." : "model.";

    /// <summary>Logits [time][vocabulary] of one sequence.</summary>
    public double[][] Logits(ReadOnlySpan<int> ids)
    {
        int hidden = config.HiddenSize;
        double[] table = weights[Root + "embeddings.weight"];
        var x = new double[ids.Length][];
        for (int t = 0; t < ids.Length; t++)
        {
            x[t] = table.AsSpan(ids[t] * hidden, hidden).ToArray();
        }

        for (int layer = 0; layer < config.Layers; layer++)
        {
            string prefix = $"{Root}layers.{layer}.";
            Add(x, Mix(Norm(x, prefix + (IsMamba ? "norm.weight" : "attn_norm.weight")), prefix));
            if (!IsMamba)
            {
                Add(x, Mlp(Norm(x, prefix + "mlp_norm.weight"), prefix + "mlp."));
            }
        }

        return Linear(Norm(x, Root + (IsMamba ? "norm_f.weight" : "norm.weight")), config.TieEmbeddings ? Root + "embeddings.weight" : "lm_head.weight");
    }

    /// <summary>Mean loss over all targets of a batch of sequences; negative targets are left out.</summary>
    public double Loss(int[][] ids, int[][] targets)
    {
        double sum = 0;
        int count = 0;
        for (int i = 0; i < ids.Length; i++)
        {
            double[][] logits = Logits(ids[i]);
            for (int t = 0; t < ids[i].Length; t++)
            {
                if (targets[i][t] >= 0)
                {
                    double largest = logits[t].Max();
                    sum += largest + Math.Log(logits[t].Sum(value => Math.Exp(value - largest))) - logits[t][targets[i][t]];
                    count++;
                }
            }
        }

        return sum / count;
    }

    private double[][] Mix(double[][] x, string prefix) => config.Mixer.Family switch
    {
        MixerFamily.Softmax => Attention(x, prefix + "attn."),
        MixerFamily.Mamba2 => Mamba(x, prefix + "mixer."),
        _ => Delta(x, prefix + "attn."),
    };

    private double[][] Delta(double[][] x, string prefix)
    {
        double[][] q = Convolution(Linear(x, prefix + "q_proj.weight"), prefix + "q_conv1d.weight", null);
        double[][] k = Convolution(Linear(x, prefix + "k_proj.weight"), prefix + "k_conv1d.weight", null);
        double[][] v = Convolution(Linear(x, prefix + "v_proj.weight"), prefix + "v_conv1d.weight", null);
        Normalize(q, config.KeyDim);
        if (config.NormalizeKeys)
        {
            Normalize(k, config.KeyDim);
        }

        double[][]? beta = config.Mixer.Name == "linear_attention" ? null : Linear(x, prefix + "b_proj.weight");
        double[][]? decay = config.Mixer.Family == MixerFamily.Gated ? Linear(x, prefix + "a_proj.weight") : null;
        for (int t = 0; t < x.Length; t++)
        {
            for (int h = 0; h < config.Heads; h++)
            {
                if (beta is not null)
                {
                    beta[t][h] = (config.DoubleStepSize ? 2 : 1) * Sigmoid(beta[t][h]);
                }

                if (decay is not null)
                {
                    decay[t][h] = -Math.Exp(weights[prefix + "A_log"][h]) * Softplus(decay[t][h] + weights[prefix + "dt_bias"][h]);
                }
            }
        }

        double[][] o = Recur(q, k, v, beta, decay, 1 / Math.Sqrt(config.KeyDim));
        double[][]? gate = config.OutputGate ? Linear(x, prefix + "g_proj.weight") : null;
        for (int t = 0; t < x.Length; t++)
        {
            for (int h = 0; h < config.Heads; h++)
            {
                NormInPlace(o[t].AsSpan(h * config.ValueDim, config.ValueDim), weights[prefix + "o_norm.weight"]);
            }

            for (int i = 0; i < o[t].Length && gate is not null; i++)
            {
                o[t][i] *= Silu(gate[t][i]);
            }
        }

        return Linear(o, prefix + "o_proj.weight");
    }

    private double[][] Mamba(double[][] x, string prefix)
    {
        int inner = config.Heads * config.ValueDim;
        int groups = config.KeyHeads * config.KeyDim;
        double[][] projected = Linear(x, prefix + "in_proj.weight");
        double[][] z = Columns(projected, 0, inner);
        double[][] mixed = Convolution(Columns(projected, inner, inner + (2 * groups)), prefix + "conv1d.weight", prefix + "conv1d.bias");
        double[][] v = Columns(mixed, 0, inner);
        double[][] k = Columns(mixed, inner, groups);
        double[][] q = Columns(mixed, inner + groups, groups);
        double[][] step = Columns(projected, (2 * inner) + (2 * groups), config.Heads);
        double[][] decay = Columns(step, 0, config.Heads);
        for (int t = 0; t < x.Length; t++)
        {
            for (int h = 0; h < config.Heads; h++)
            {
                step[t][h] = Softplus(step[t][h] + weights[prefix + "dt_bias"][h]);
                decay[t][h] = -Math.Exp(weights[prefix + "A_log"][h]) * step[t][h];
            }
        }

        double[][] y = Recur(q, k, v, step, decay, 1);
        for (int t = 0; t < x.Length; t++)
        {
            for (int i = 0; i < inner; i++)
            {
                y[t][i] = (y[t][i] + (weights[prefix + "D"][i / config.ValueDim] * v[t][i])) * Silu(z[t][i]);
            }

            NormInPlace(y[t], weights[prefix + "norm.weight"]);
        }

        return Linear(y, prefix + "out_proj.weight");
    }

    /// <summary>S = g (I - e k k^T) S + w k v^T, o = scale S^T q, token by token.</summary>
    private double[][] Recur(double[][] q, double[][] k, double[][] v, double[][]? beta, double[][]? decay, double scale)
    {
        var o = new double[q.Length][];
        for (int t = 0; t < q.Length; t++)
        {
            o[t] = new double[config.Heads * config.ValueDim];
        }

        for (int h = 0; h < config.Heads; h++)
        {
            var s = new double[config.KeyDim, config.ValueDim];
            int keyStart = h / (config.Heads / config.KeyHeads) * config.KeyDim;
            for (int t = 0; t < q.Length; t++)
            {
                double[] key = k[t][keyStart..(keyStart + config.KeyDim)];
                double lambda = key.Sum(value => value * value);
                if (config.Mixer.Name is "deltanet" or "gated_deltanet")
                {
                    double length = Math.Sqrt(lambda + 1e-6);
                    key = Array.ConvertAll(key, value => value / length);
                }

                (double g, double e, double w) = Coefficients(config.Mixer.Name, beta?[t][h] ?? 0, lambda, decay?[t][h] ?? 0);
                for (int j = 0; j < config.ValueDim; j++)
                {
                    double p = 0;
                    for (int i = 0; i < config.KeyDim; i++)
                    {
                        p += key[i] * s[i, j];
                    }

                    double output = 0;
                    for (int i = 0; i < config.KeyDim; i++)
                    {
                        s[i, j] = (g * (s[i, j] - (e * key[i] * p))) + (w * key[i] * v[t][(h * config.ValueDim) + j]);
                        output += s[i, j] * q[t][keyStart + i];
                    }

                    o[t][(h * config.ValueDim) + j] = scale * output;
                }
            }
        }

        return o;
    }

    /// <summary>The table of the method, row by row; for DeltaNet and Gated DeltaNet, e and w act on the unit key.</summary>
    private static (double G, double E, double W) Coefficients(string rule, double beta, double lambda, double logDecay)
    {
        double x = beta * lambda;
        double d = 1 - Math.Exp(logDecay);
        double r = Math.Exp(logDecay) * beta;
        return rule switch
        {
            "efla" => (1, beta * Phi(x), beta * Phi(x)),
            "deltanet" or "explicit_euler" => (1, beta, beta),
            "gated_deltanet" => (Math.Exp(logDecay), beta, beta),
            "gated_efla" => (Math.Exp(-d), r * Phi(r * lambda), beta * Phi(d + (r * lambda))),
            "log_rate_gated_efla" => (Math.Exp(logDecay), beta * Phi(x), beta * Phi(x - logDecay)),
            "linear_attention" => (1, 0, 1),
            "mamba2" => (Math.Exp(logDecay), 0, beta),
            "rk2" => (1, beta * (1 - (x / 2)), beta * (1 - (x / 2))),
            "rk4" => (1, beta * (1 - (x / 2) + (x * x / 6) - (x * x * x / 24)), beta * (1 - (x / 2) + (x * x / 6) - (x * x * x / 24))),
            "implicit_euler" => (1, beta / (1 + x), beta / (1 + x)),
            "cayley" => (1, beta / (1 + (x / 2)), beta / (1 + (x / 2))),
            "clipped_euler" => (1, x > 2 ? 2 / lambda : beta, x > 2 ? 2 / lambda : beta),
            "unit_key_flow" => (1, (1 - Math.Exp(-beta)) / (lambda + 1e-6), (1 - Math.Exp(-beta)) / Math.Sqrt(lambda + 1e-6)),
            "unit_key_flow_scaled_value" => (1, (1 - Math.Exp(-beta)) / (lambda + 1e-6), (1 - Math.Exp(-beta)) / (lambda + 1e-6)),
            _ => throw new NotSupportedException($"The reference model has no rule {rule}: write its row of the table here."),
        };
    }

    private static double Phi(double x) => Math.Abs(x) < 1e-3 ? 1 - (x / 2) + (x * x / 6) - (x * x * x / 24) + (x * x * x * x / 120) : (1 - Math.Exp(-x)) / x;

    private double[][] Attention(double[][] x, string prefix)
    {
        int dim = config.KeyDim;
        double[][] q = Rotate(Linear(x, prefix + "q_proj.weight"));
        double[][] k = Rotate(Linear(x, prefix + "k_proj.weight"));
        double[][] v = Linear(x, prefix + "v_proj.weight");
        var o = new double[x.Length][];
        for (int t = 0; t < x.Length; t++)
        {
            o[t] = new double[config.Heads * dim];
            for (int h = 0; h < config.Heads; h++)
            {
                int shared = h / (config.Heads / config.KeyHeads) * dim;
                var scores = new double[t + 1];
                for (int s = 0; s <= t; s++)
                {
                    for (int i = 0; i < dim; i++)
                    {
                        scores[s] += q[t][(h * dim) + i] * k[s][shared + i] / Math.Sqrt(dim);
                    }
                }

                double largest = scores.Max();
                double sum = scores.Sum(score => Math.Exp(score - largest));
                for (int s = 0; s <= t; s++)
                {
                    for (int i = 0; i < dim; i++)
                    {
                        o[t][(h * dim) + i] += Math.Exp(scores[s] - largest) / sum * v[s][shared + i];
                    }
                }
            }
        }

        return Linear(o, prefix + "o_proj.weight");
    }

    /// <summary>Pairs (i, i + dim/2) of each head turn by t theta^(-2i/dim).</summary>
    private double[][] Rotate(double[][] x)
    {
        int dim = config.KeyDim;
        for (int t = 0; t < x.Length; t++)
        {
            for (int start = 0; start < x[t].Length; start += dim)
            {
                for (int i = 0; i < dim / 2; i++)
                {
                    double angle = t * Math.Pow(config.RopeTheta, -2.0 * i / dim);
                    (double a, double b) = (x[t][start + i], x[t][start + i + (dim / 2)]);
                    x[t][start + i] = (a * Math.Cos(angle)) - (b * Math.Sin(angle));
                    x[t][start + i + (dim / 2)] = (b * Math.Cos(angle)) + (a * Math.Sin(angle));
                }
            }
        }

        return x;
    }

    private double[][] Mlp(double[][] x, string prefix)
    {
        double[][] gate = Linear(x, prefix + "gate_proj.weight");
        double[][] up = Linear(x, prefix + "up_proj.weight");
        for (int t = 0; t < x.Length; t++)
        {
            for (int i = 0; i < gate[t].Length; i++)
            {
                gate[t][i] = Silu(gate[t][i]) * up[t][i];
            }
        }

        return Linear(gate, prefix + "down_proj.weight");
    }

    /// <summary>SiLU(bias + sum_j weight[c, j] x[t - width + 1 + j, c]).</summary>
    private double[][] Convolution(double[][] x, string name, string? biasName)
    {
        int width = config.ConvolutionWidth;
        double[] weight = weights[name];
        var y = new double[x.Length][];
        for (int t = 0; t < x.Length; t++)
        {
            y[t] = new double[x[t].Length];
            for (int c = 0; c < x[t].Length; c++)
            {
                double sum = biasName is null ? 0 : weights[biasName][c];
                for (int j = 0; j < width; j++)
                {
                    int source = t - width + 1 + j;
                    sum += source < 0 ? 0 : weight[(c * width) + j] * x[source][c];
                }

                y[t][c] = Silu(sum);
            }
        }

        return y;
    }

    private double[][] Linear(double[][] x, string name)
    {
        double[] weight = weights[name];
        return Array.ConvertAll(x, row =>
        {
            var y = new double[weight.Length / row.Length];
            for (int o = 0; o < y.Length; o++)
            {
                for (int i = 0; i < row.Length; i++)
                {
                    y[o] += weight[(o * row.Length) + i] * row[i];
                }
            }

            return y;
        });
    }

    private double[][] Norm(double[][] x, string name) => Array.ConvertAll(x, row =>
    {
        var y = (double[])row.Clone();
        NormInPlace(y, weights[name]);
        return y;
    });

    private void NormInPlace(Span<double> row, double[] weight)
    {
        double squares = 0;
        foreach (double value in row)
        {
            squares += value * value;
        }

        double factor = 1 / Math.Sqrt((squares / row.Length) + config.NormEpsilon);
        for (int i = 0; i < row.Length; i++)
        {
            row[i] *= factor * weight[i];
        }
    }

    private static void Normalize(double[][] x, int dim)
    {
        foreach (double[] row in x)
        {
            for (int start = 0; start < row.Length; start += dim)
            {
                double length = Math.Sqrt(row.Skip(start).Take(dim).Sum(value => value * value) + 1e-6);
                for (int i = start; i < start + dim; i++)
                {
                    row[i] /= length;
                }
            }
        }
    }

    private static double[][] Columns(double[][] x, int start, int count) => Array.ConvertAll(x, row => row[start..(start + count)]);

    private static void Add(double[][] x, double[][] y)
    {
        for (int t = 0; t < x.Length; t++)
        {
            for (int i = 0; i < x[t].Length; i++)
            {
                x[t][i] += y[t][i];
            }
        }
    }

    private static double Silu(double x) => x * Sigmoid(x);

    private static double Sigmoid(double x) => 1 / (1 + Math.Exp(-x));

    private static double Softplus(double x) => Math.Max(x, 0) + Math.Log(1 + Math.Exp(-Math.Abs(x)));
}
