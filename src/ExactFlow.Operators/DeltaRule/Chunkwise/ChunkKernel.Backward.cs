namespace ExactFlow.Operators;

/// <content>
/// The pass backwards: what the chunk needs is recomputed from the state before it, then, with dS the gradient of the state after the chunk,
/// <code>
///   dU = P^T dO + (delta Kn) dS              (I - A)^T dR = dU
///   dP = lower(dO U^T) . G                   dA = strict_lower(dR U^T) . G
///   dQ = gamma dO S^T + dP Kn                dE = gamma dR S^T + dA Kn
///   dKn = delta U dS^T + dA^T E + dP^T Q - e dE
///   dw = v . dR,  dV = w dR,  de = -kn . dE
///   dS' = gamma_C dS + (gamma Q)^T dO + (gamma E)^T dR
/// </code>
/// and each L_r gets what every product that it scales contributes: (value . its gradient), with the sign it has there.
/// </content>
internal unsafe partial struct ChunkKernel<TL, T>
{
    /// <summary>Gradients of the lane.</summary>
    /// <param name="end">This lane's columns of the gradient of the state after its last chunk, or null for zero.</param>
    /// <param name="start">Where those of the gradient of the state before its first chunk go.</param>
    public void Backward(T* end, GradientTarget<T> start)
    {
        LoadState(end, w.GradState);
        for (int chunk = lane.EndChunk - 1; chunk >= lane.FirstChunk; chunk--)
        {
            LoadState(ChunkState(chunk), w.State);
            LoadChunk(chunk, call.HasOutput, isBackward: true);
            SolveUpdates(w.State);
            LoadGradOutputs();
            SolveGradUpdates();
            GradientsOfTriangles();
            GradientsOfRows();
            WriteGradients();
            RetreatState();
        }

        for (int i = 0; start.IsWanted && i < KeyDim; i++)
        {
            Rows<TL, T>.Write(w.GradState + (i * w.ValueRow), T.One, start.Pointer + (i * call.Sizes.ValueDim), lane.Columns, start.Accumulate);
        }
    }

    /// <summary>The gradient of the state before the lane, without those of the inputs.</summary>
    public void CarryBackward(T* end, T* start)
    {
        LoadState(end, w.GradState);
        for (int chunk = lane.EndChunk - 1; chunk >= lane.FirstChunk; chunk--)
        {
            LoadChunk(chunk, call.HasOutput);
            LoadGradOutputs();
            SolveGradUpdates();
            RetreatState();
        }

        SaveState(w.GradState, start);
    }

    private readonly void LoadGradOutputs()
    {
        for (int t = 0; call.HasOutput && t < count; t++)
        {
            Rows<TL, T>.Scale(call.GradOutput + ValueAt(t), T.One, w.Outputs + (t * w.ValueRow), lane.Columns);
        }

        Rows<TL, T>.ClearPadding(w.Outputs, w.ValueRow, count);
    }

    /// <summary>dU, then dR in its place.</summary>
    private readonly void SolveGradUpdates()
    {
        Tile<TL, T>.Multiply(count, lane.Columns, KeyDim, w.KeysToEnd, w.KeyRow, 1, w.GradState, w.ValueRow, w.GradUpdates, w.ValueRow, accumulate: false);
        if (call.HasOutput)
        {
            Tile<TL, T>.Multiply(count, lane.Columns, count, w.Attention, 1, w.TokenRow, w.Outputs, w.ValueRow, w.GradUpdates, w.ValueRow, accumulate: true, Band.UpperLeft);
        }

        if (erases)
        {
            Tile<TL, T>.SolveLowerTransposed(count, lane.Columns, w.Erasure, w.TokenRow, w.GradUpdates, w.ValueRow);
        }
    }

    /// <summary>dP and dA, and what they mean for the logs of decay between tokens.</summary>
    private readonly void GradientsOfTriangles()
    {
        Tile<TL, T>.Transpose(count, lane.Columns, w.Updates, w.ValueRow, w.UpdatesTransposed, w.TokenRow);
        if (decays)
        {
            new Span<T>(w.RowSums, count).Clear();
            new Span<T>(w.ColumnSums, (int)w.TokenRow).Clear();
        }

        if (call.HasOutput)
        {
            GradientOfTriangle(w.Outputs, w.Attention, w.GradAttention, keepDiagonal: true);
        }

        if (erases)
        {
            GradientOfTriangle(w.GradUpdates, w.Erasure, w.GradErasure, keepDiagonal: false);
        }
    }

    private readonly void GradientOfTriangle(T* gradRows, T* triangle, T* gradTriangle, bool keepDiagonal)
    {
        Tile<TL, T>.Multiply(
            count, count, lane.Columns, gradRows, w.ValueRow, 1, w.UpdatesTransposed, w.TokenRow, gradTriangle, w.TokenRow, accumulate: false, Band.LowerResult);
        ClearAboveDiagonal(gradTriangle, keepDiagonal);
        if (decays)
        {
            for (int r = 0; r < count; r++)
            {
                // Strictly below the diagonal: a token does not decay with respect to itself.
                w.RowSums[r] += AddProducts(triangle + (r * w.TokenRow), gradTriangle + (r * w.TokenRow), w.ColumnSums, r);
            }

            ApplyDecay(gradTriangle);
        }
    }

    /// <summary>sums += x . y element by element; returns the sum of all.</summary>
    private static T AddProducts(T* x, T* y, T* sums, int count)
    {
        TL total = TL.Zero;
        for (int i = 0; i < count; i += TL.Count)
        {
            int rest = Math.Min(TL.Count, count - i);
            TL product = rest == TL.Count ? TL.Load(x + i) * TL.Load(y + i) : TL.LoadPartial(x + i, rest) * TL.LoadPartial(y + i, rest);
            total += product;
            (TL.Load(sums + i) + product).Store(sums + i);
        }

        return total.Sum();
    }

    /// <summary>dQ, dE and dKn.</summary>
    private readonly void GradientsOfRows()
    {
        Tile<TL, T>.Transpose(KeyDim, lane.Columns, w.State, w.ValueRow, w.StateTransposed, w.KeyRow);
        Tile<TL, T>.Transpose(KeyDim, lane.Columns, w.GradState, w.ValueRow, w.GradStateTransposed, w.KeyRow);
        if (decays)
        {
            GradientsOfLogs();
        }

        if (call.HasOutput)
        {
            GradientOfRows(w.Outputs, w.StateTransposed, w.FromStart, w.Queries, w.GradQueries, sign: 1);
            AddTriangleTimes(w.GradAttention, w.Keys, w.GradQueries);
        }

        GradientOfRows(w.Updates, w.GradStateTransposed, w.ToEnd, w.Keys, w.GradKeys, sign: -1);
        if (call.HasOutput)
        {
            AddTransposedTriangleTimes(w.GradAttention, w.Queries, w.GradKeys);
        }

        if (erases)
        {
            GradientOfRows(w.GradUpdates, w.StateTransposed, w.FromStart, w.ErasingKeys, w.GradErasingKeys, sign: 1);
            AddTriangleTimes(w.GradErasure, w.Keys, w.GradErasingKeys);
            AddTransposedTriangleTimes(w.GradErasure, w.ErasingKeys, w.GradKeys);
        }
    }

    /// <summary>Starts the gradients of L with those of the triangles and of the state carried through the whole chunk.</summary>
    private readonly void GradientsOfLogs()
    {
        for (int t = 0; t < count; t++)
        {
            w.GradLogDecay[t] = double.CreateTruncating(w.RowSums[t] - w.ColumnSums[t]);
        }

        double carried = 0;
        for (int i = 0; i < KeyDim; i++)
        {
            carried += double.CreateTruncating(Rows<TL, T>.Dot(w.State + (i * w.ValueRow), w.GradState + (i * w.ValueRow), lane.Columns));
        }

        w.GradLogDecay[count - 1] += carried * Math.Exp(w.LogDecay[count - 1]);
    }

    /// <summary>gradient = decay . (left state^T), the part of a row gradient that goes through a state.</summary>
    private readonly void GradientOfRows(T* left, T* stateTransposed, T* decay, T* rows, T* gradient, int sign)
    {
        Tile<TL, T>.Multiply(count, KeyDim, lane.Columns, left, w.ValueRow, 1, stateTransposed, w.KeyRow, gradient, w.KeyRow, accumulate: false);
        for (int t = 0; decays && t < count; t++)
        {
            T* row = gradient + (t * w.KeyRow);
            Rows<TL, T>.Scale(row, decay[t], row, KeyDim);
            double contribution = double.CreateTruncating(Rows<TL, T>.Dot(row, rows + (t * w.KeyRow), KeyDim));
            w.GradLogDecay[t] += sign * contribution;
            if (sign < 0)
            {
                // delta_t = exp(L_C - L_t) grows with the chunk's last log.
                w.GradLogDecay[count - 1] += contribution;
            }
        }
    }

    private readonly void AddTriangleTimes(T* triangle, T* rows, T* gradient)
        => Tile<TL, T>.Multiply(count, KeyDim, count, triangle, w.TokenRow, 1, rows, w.KeyRow, gradient, w.KeyRow, accumulate: true, Band.LowerLeft);

    private readonly void AddTransposedTriangleTimes(T* triangle, T* rows, T* gradient)
        => Tile<TL, T>.Multiply(count, KeyDim, count, triangle, 1, w.TokenRow, rows, w.KeyRow, gradient, w.KeyRow, accumulate: true, Band.UpperLeft);

    /// <summary>Through the coefficients and the key's length to the inputs of every token.</summary>
    private readonly void WriteGradients()
    {
        double gradLogDecay = 0;
        for (int t = count - 1; t >= 0; t--)
        {
            T* gradKey = w.GradKeys + (t * w.KeyRow);
            T* gradValue = w.GradUpdates + (t * w.ValueRow);
            double length = 1 / double.CreateTruncating(w.InverseLength[t]);
            double gradWrite = length * double.CreateTruncating(Rows<TL, T>.Dot(call.Value + ValueAt(t), gradValue, lane.Columns));
            double gradErase = 0;
            if (erases)
            {
                T* gradErasingKey = w.GradErasingKeys + (t * w.KeyRow);
                gradErase = -length * length * double.CreateTruncating(Rows<TL, T>.Dot(w.Keys + (t * w.KeyRow), gradErasingKey, KeyDim));
                Rows<TL, T>.AddScaled(gradErasingKey, -w.Erase[t], gradKey, KeyDim);
            }

            // A log decay moves all cumulative logs from its token to the end of the chunk.
            gradLogDecay += decays ? w.GradLogDecay[t] : 0;
            double beta = call.BetaAt(ScalarAt(t));
            DeltaCoefficientSlopes slopes = call.Rule.Differentiate(beta, w.Lambda[t], call.LogDecayAt(ScalarAt(t)));
            call.GradBeta.WriteScalar(ScalarAt(t), (gradErase * slopes.EraseByBeta) + (gradWrite * slopes.WriteByBeta));
            call.GradLogDecay.WriteScalar(
                ScalarAt(t), (gradErase * slopes.EraseByLogDecay) + (gradWrite * slopes.WriteByLogDecay) + (gradLogDecay * slopes.LogDecayByLogDecay));
            WriteKeyGradient(t, gradKey, 2 * ((gradErase * slopes.EraseByLambda) + (gradWrite * slopes.WriteByLambda)));
            if (call.GradQuery.IsWanted)
            {
                Rows<TL, T>.Write(w.GradQueries + (t * w.KeyRow), call.Scale, call.GradQuery.Pointer + KeyAt(t), KeyDim, call.GradQuery.Accumulate);
            }

            if (call.GradValue.IsWanted)
            {
                Rows<TL, T>.Write(gradValue, w.Write[t], call.GradValue.Pointer + ValueAt(t), lane.Columns, call.GradValue.Accumulate);
            }
        }
    }

    /// <summary>dk = dkn / |k| + 2 dlambda k; that kn depends on |k| cancels, because e and w are scaled with it.</summary>
    private readonly void WriteKeyGradient(int t, T* gradKey, double twiceGradLambda)
    {
        if (call.GradKey.IsWanted)
        {
            T* target = call.GradKey.Pointer + KeyAt(t);
            Rows<TL, T>.Write(gradKey, w.InverseLength[t], target, KeyDim, call.GradKey.Accumulate);
            Rows<TL, T>.AddScaled(call.Key + KeyAt(t), T.CreateTruncating(twiceGradLambda), target, KeyDim);
        }
    }

    /// <summary>dS before the chunk.</summary>
    private readonly void RetreatState()
    {
        DecayState(w.GradState);
        if (call.HasOutput)
        {
            AddOuterProducts(w.QueriesFromStart, w.Outputs, w.GradState);
        }

        if (erases)
        {
            AddOuterProducts(w.ErasingKeysFromStart, w.GradUpdates, w.GradState);
        }
    }
}
