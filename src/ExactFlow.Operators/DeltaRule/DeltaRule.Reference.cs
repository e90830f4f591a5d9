namespace ExactFlow.Operators;

/// <summary>
/// The recurrence token by token in float64, line for line sections 2 and 6 of the method. It is what every other form is held against.
/// States before every 64th token are kept on the way forward and the rest recomputed on the way back.
/// </summary>
internal readonly unsafe struct DeltaRuleReference
{
    private const int CheckpointInterval = 64;

    private readonly DeltaRuleCall<double> call;
    private readonly int keyDim;
    private readonly int valueDim;
    private readonly int sequence;
    private readonly int head;

    private DeltaRuleReference(in DeltaRuleCall<double> call, int sequence, int head)
    {
        this.call = call;
        this.sequence = sequence;
        this.head = head;
        keyDim = call.Sizes.KeyDim;
        valueDim = call.Sizes.ValueDim;
    }

    /// <summary>Output and final state.</summary>
    public static void Forward(in DeltaRuleCall<double> call)
    {
        for (int sequence = 0; sequence < call.Sequences; sequence++)
        {
            for (int head = 0; head < call.Sizes.ValueHeads; head++)
            {
                new DeltaRuleReference(call, sequence, head).Forward();
            }
        }
    }

    /// <summary>Gradients of all inputs.</summary>
    public static void Backward(in DeltaRuleCall<double> call)
    {
        // Value heads that share a key head add up, so what is to be overwritten starts at zero.
        Clear(call.GradQuery, call.Sizes.QueryCount);
        Clear(call.GradKey, call.Sizes.QueryCount);
        Clear(call.GradValue, call.Sizes.ValueCount);
        Clear(call.GradBeta, call.Sizes.ScalarCount);
        Clear(call.GradLogDecay, call.Sizes.ScalarCount);
        Clear(call.GradInitialState, (long)call.Sequences * call.Sizes.ValueHeads * call.Sizes.StateSize);
        for (int sequence = 0; sequence < call.Sequences; sequence++)
        {
            for (int head = 0; head < call.Sizes.ValueHeads; head++)
            {
                new DeltaRuleReference(call, sequence, head).Backward();
            }
        }
    }

    private static void Clear(GradientTarget<double> target, long count)
    {
        if (target.IsWanted && !target.Accumulate)
        {
            new Span<double>(target.Pointer, checked((int)count)).Clear();
        }
    }

    private static void Add(GradientTarget<double> target, long index, double value)
    {
        if (target.IsWanted)
        {
            target.Pointer[index] += value;
        }
    }

    private readonly void Forward()
    {
        double[] state = InitialState();
        for (int t = 0; t < call.Length(sequence); t++)
        {
            long token = call.FirstToken(sequence) + t;
            Advance(state, token);
            if (!call.HasOutput)
            {
                continue;
            }

            double* q = call.Query + call.KeyOffset(token, head);
            double* o = call.Output + call.ValueOffset(token, head);
            for (int j = 0; j < valueDim; j++)
            {
                double sum = 0;
                for (int i = 0; i < keyDim; i++)
                {
                    sum += state[(i * valueDim) + j] * q[i];
                }

                o[j] = call.Scale * sum;
            }
        }

        if (call.FinalState != null)
        {
            state.CopyTo(new Span<double>(call.FinalState + call.StateOffset(sequence, head), state.Length));
        }
    }

    private readonly double[] InitialState()
    {
        var state = new double[call.Sizes.StateSize];
        if (call.InitialState != null)
        {
            new ReadOnlySpan<double>(call.InitialState + call.StateOffset(sequence, head), state.Length).CopyTo(state);
        }

        return state;
    }

    /// <summary>S = g (I - e k k^T) S + w k v^T.</summary>
    private readonly void Advance(double[] state, long token)
    {
        double* k = call.Key + call.KeyOffset(token, head);
        double* v = call.Value + call.ValueOffset(token, head);
        DeltaCoefficients c = call.Rule.Evaluate(call.BetaAt(call.ScalarOffset(token, head)), SquaredLength(k), call.LogDecayAt(call.ScalarOffset(token, head)));
        double g = Math.Exp(c.LogDecay);
        for (int j = 0; j < valueDim; j++)
        {
            double u = (c.Write * v[j]) - (c.Erase * g * Recall(state, k, j));
            for (int i = 0; i < keyDim; i++)
            {
                state[(i * valueDim) + j] = (g * state[(i * valueDim) + j]) + (k[i] * u);
            }
        }
    }

    /// <summary>Element j of p = S^T k.</summary>
    private readonly double Recall(double[] state, double* k, int j)
    {
        double p = 0;
        for (int i = 0; i < keyDim; i++)
        {
            p += state[(i * valueDim) + j] * k[i];
        }

        return p;
    }

    private readonly double SquaredLength(double* k)
    {
        double lambda = 0;
        for (int i = 0; i < keyDim; i++)
        {
            lambda += k[i] * k[i];
        }

        return lambda;
    }

    private readonly void Backward()
    {
        int length = call.Length(sequence);
        double[][] checkpoints = Checkpoints(length);
        var gradient = new double[call.Sizes.StateSize];
        if (call.GradFinalState != null)
        {
            new ReadOnlySpan<double>(call.GradFinalState + call.StateOffset(sequence, head), gradient.Length).CopyTo(gradient);
        }

        // states[i] is S before token first + i.
        var states = new double[CheckpointInterval + 1][];
        for (int block = checkpoints.Length - 1; block >= 0; block--)
        {
            int first = block * CheckpointInterval;
            int last = Math.Min(length, first + CheckpointInterval);
            states[0] = checkpoints[block];
            for (int t = first; t < last; t++)
            {
                states[t - first + 1] = (double[])states[t - first].Clone();
                Advance(states[t - first + 1], call.FirstToken(sequence) + t);
            }

            for (int t = last - 1; t >= first; t--)
            {
                Retreat(gradient, states[t - first], states[t - first + 1], call.FirstToken(sequence) + t);
            }
        }

        for (int i = 0; i < gradient.Length; i++)
        {
            Add(call.GradInitialState, call.StateOffset(sequence, head) + i, gradient[i]);
        }
    }

    private readonly double[][] Checkpoints(int length)
    {
        var checkpoints = new double[(length + CheckpointInterval - 1) / CheckpointInterval][];
        double[] state = InitialState();
        for (int t = 0; t < length; t++)
        {
            if (t % CheckpointInterval == 0)
            {
                checkpoints[t / CheckpointInterval] = (double[])state.Clone();
            }

            Advance(state, call.FirstToken(sequence) + t);
        }

        return checkpoints;
    }

    /// <summary>The output of a token: <c>dq = scale S do</c>, <c>G += scale q do^T</c>.</summary>
    private readonly void RetreatOutput(double[] G, double[] after, long atKey, long atValue)
    {
        for (int j = 0; j < valueDim; j++)
        {
            double gradO = call.GradOutput[atValue + j];
            for (int i = 0; i < keyDim; i++)
            {
                int at = (i * valueDim) + j;
                Add(call.GradQuery, atKey + i, call.Scale * after[at] * gradO);
                G[at] += call.Scale * call.Query[atKey + i] * gradO;
            }
        }
    }

    /// <summary>One token backwards: <paramref name="G"/> comes in as dL/dS_t by what follows, leaves as dL/dS_{t-1}.</summary>
    /// <param name="G">Gradient of the state.</param>
    /// <param name="before">S_{t-1}.</param>
    /// <param name="after">S_t.</param>
    /// <param name="token">The token's row.</param>
    private readonly void Retreat(double[] G, double[] before, double[] after, long token)
    {
        long atKey = call.KeyOffset(token, head);
        long atValue = call.ValueOffset(token, head);
        long atScalar = call.ScalarOffset(token, head);
        double* k = call.Key + atKey;
        double* v = call.Value + atValue;
        double beta = call.BetaAt(atScalar);
        double logDecay = call.LogDecayAt(atScalar);
        double lambda = SquaredLength(k);
        DeltaCoefficients c = call.Rule.Evaluate(beta, lambda, logDecay);
        double g = Math.Exp(c.LogDecay);
        if (call.HasOutput)
        {
            RetreatOutput(G, after, atKey, atValue);
        }

        var gradK = new double[keyDim];
        double gradE = 0;
        double gradW = 0;
        double gradG = 0;
        for (int j = 0; j < valueDim; j++)
        {
            double gradU = 0;
            for (int i = 0; i < keyDim; i++)
            {
                int at = (i * valueDim) + j;
                gradU += G[at] * k[i];
                gradG += G[at] * before[at];
            }

            double p = Recall(before, k, j);
            double u = (c.Write * v[j]) - (c.Erase * g * p);
            double gradP = -c.Erase * g * gradU;
            Add(call.GradValue, atValue + j, c.Write * gradU);
            gradW += v[j] * gradU;
            gradE -= g * p * gradU;
            gradG -= c.Erase * p * gradU;
            for (int i = 0; i < keyDim; i++)
            {
                int at = (i * valueDim) + j;
                gradK[i] += (G[at] * u) + (before[at] * gradP);
                G[at] = (g * G[at]) + (k[i] * gradP);
            }
        }

        DeltaCoefficientSlopes slopes = call.Rule.Differentiate(beta, lambda, logDecay);
        double gradLambda = (gradE * slopes.EraseByLambda) + (gradW * slopes.WriteByLambda);
        for (int i = 0; i < keyDim; i++)
        {
            Add(call.GradKey, atKey + i, gradK[i] + (2 * k[i] * gradLambda));
        }

        Add(call.GradBeta, atScalar, (gradE * slopes.EraseByBeta) + (gradW * slopes.WriteByBeta));
        Add(call.GradLogDecay, atScalar, (gradE * slopes.EraseByLogDecay) + (gradW * slopes.WriteByLogDecay) + (gradG * g * slopes.LogDecayByLogDecay));
    }
}
