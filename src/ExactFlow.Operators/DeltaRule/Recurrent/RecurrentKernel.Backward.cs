namespace ExactFlow.Operators;

/// <content>
/// The pass backwards, section 6 of the method line by line: states within a block are recomputed from the one before it, so memory is
/// that of the boundary states and one block per worker.
/// </content>
internal unsafe partial struct RecurrentKernel<TL, T>
{
    /// <summary>Gradients of the lane.</summary>
    public void Backward()
    {
        if (call.GradFinalState != null)
        {
            Rows<TL, T>.Copy(call.GradFinalState + StateAt(lane.Sequence), call.Sizes.ValueDim, w.GradState, w.ValueRow, KeyDim, lane.Columns);
        }

        int length = call.Length(lane.Sequence);
        int firstChunk = call.FirstChunk(lane.Sequence);
        for (int chunk = call.ChunksOf(length) - 1; chunk >= 0; chunk--)
        {
            int first = chunk * call.ChunkLength;
            LoadBlock(call.FirstToken(lane.Sequence) + first, Math.Min(call.ChunkLength, length - first));
            new Span<T>(w.States, (int)(KeyDim * w.ValueRow)).Clear();
            Rows<TL, T>.Copy(call.ChunkStates + StateAt(firstChunk + chunk), call.Sizes.ValueDim, w.States, w.ValueRow, KeyDim, lane.Columns);
            for (int t = 0; t < count; t++)
            {
                RecomputeState(t);
            }

            for (int t = count - 1; t >= 0; t--)
            {
                Retreat(t);
            }
        }

        for (int i = 0; i < KeyDim && call.GradInitialState.IsWanted; i++)
        {
            T* target = call.GradInitialState.Pointer + StateAt(lane.Sequence) + (i * call.Sizes.ValueDim);
            Rows<TL, T>.Write(w.GradState + (i * w.ValueRow), T.One, target, lane.Columns, call.GradInitialState.Accumulate);
        }
    }

    /// <summary>The state before token t of the block; there is one more, after the last.</summary>
    private readonly T* StateBefore(int t) => w.States + (t * KeyDim * w.ValueRow);

    private readonly void RecomputeState(int t)
    {
        LoadUpdate(t);
        T* before = StateBefore(t);
        T* after = StateBefore(t + 1);
        T* k = call.Key + KeyAt(t);
        int columns = (int)w.ValueRow;
        for (int i = 0; i < KeyDim; i++)
        {
            Rows<TL, T>.Scale(before + (i * w.ValueRow), w.Keep[t], after + (i * w.ValueRow), columns);
            Rows<TL, T>.AddScaled(w.Update, k[i], after + (i * w.ValueRow), columns);
        }
    }

    /// <summary>p = S^T k and u = w v - e g p of token t.</summary>
    private readonly void LoadUpdate(int t)
    {
        T* before = StateBefore(t);
        T* k = call.Key + KeyAt(t);
        new Span<T>(w.Recalled, (int)w.ValueRow).Clear();
        for (int i = 0; i < KeyDim; i++)
        {
            Rows<TL, T>.AddScaled(before + (i * w.ValueRow), k[i], w.Recalled, (int)w.ValueRow);
        }

        Rows<TL, T>.Scale(call.Value + ValueAt(t), T.One, w.Value, lane.Columns);
        Rows<TL, T>.Scale(w.Value, w.Write[t], w.Update, lane.Columns);
        Rows<TL, T>.AddScaled(w.Recalled, -w.Erase[t] * w.Keep[t], w.Update, lane.Columns);
    }

    private readonly void Retreat(int t)
    {
        int columns = (int)w.ValueRow;
        T* k = call.Key + KeyAt(t);
        T* before = StateBefore(t);
        T keep = w.Keep[t];
        T gradKeep = T.Zero;
        LoadUpdate(t);
        if (call.HasOutput)
        {
            RetreatOutput(t);
        }

        new Span<T>(w.GradUpdate, columns).Clear();
        for (int i = 0; i < KeyDim; i++)
        {
            T* gradState = w.GradState + (i * w.ValueRow);
            Rows<TL, T>.AddScaled(gradState, k[i], w.GradUpdate, columns);
            gradKeep += Rows<TL, T>.Dot(gradState, before + (i * w.ValueRow), columns);
        }

        T recalledByUpdate = Rows<TL, T>.Dot(w.Recalled, w.GradUpdate, columns);
        gradKeep -= w.Erase[t] * recalledByUpdate;
        Rows<TL, T>.Scale(w.GradUpdate, -w.Erase[t] * keep, w.GradRecalled, columns);
        for (int i = 0; i < KeyDim; i++)
        {
            T* gradState = w.GradState + (i * w.ValueRow);
            w.GradKey[i] = Rows<TL, T>.Dot(gradState, w.Update, columns) + Rows<TL, T>.Dot(before + (i * w.ValueRow), w.GradRecalled, columns);
            Rows<TL, T>.Scale(gradState, keep, gradState, columns);
            Rows<TL, T>.AddScaled(w.GradRecalled, k[i], gradState, columns);
        }

        double gradErase = double.CreateTruncating(-keep * recalledByUpdate);
        double gradWrite = double.CreateTruncating(Rows<TL, T>.Dot(w.Value, w.GradUpdate, columns));
        WriteGradients(t, gradErase, gradWrite, double.CreateTruncating(gradKeep * keep));
    }

    /// <summary>The output of token t: the gradient of its query, and what it adds to that of the state.</summary>
    private readonly void RetreatOutput(int t)
    {
        int columns = (int)w.ValueRow;
        T* q = call.Query + KeyAt(t);
        T* after = StateBefore(t + 1);
        Rows<TL, T>.Scale(call.GradOutput + ValueAt(t), call.Scale, w.Output, lane.Columns);
        for (int i = 0; i < KeyDim; i++)
        {
            w.GradQuery[i] = Rows<TL, T>.Dot(after + (i * w.ValueRow), w.Output, columns);
            Rows<TL, T>.AddScaled(w.Output, q[i], w.GradState + (i * w.ValueRow), columns);
        }
    }

    /// <summary>Through the coefficients to the inputs of token t.</summary>
    private readonly void WriteGradients(int t, double gradErase, double gradWrite, double gradLogKeep)
    {
        DeltaCoefficientSlopes slopes = call.Rule.Differentiate(call.BetaAt(ScalarAt(t)), w.Lambda[t], call.LogDecayAt(ScalarAt(t)));
        call.GradBeta.WriteScalar(ScalarAt(t), (gradErase * slopes.EraseByBeta) + (gradWrite * slopes.WriteByBeta));
        call.GradLogDecay.WriteScalar(
            ScalarAt(t), (gradErase * slopes.EraseByLogDecay) + (gradWrite * slopes.WriteByLogDecay) + (gradLogKeep * slopes.LogDecayByLogDecay));
        double gradLambda = (gradErase * slopes.EraseByLambda) + (gradWrite * slopes.WriteByLambda);
        if (call.GradKey.IsWanted)
        {
            Rows<TL, T>.AddScaled(call.Key + KeyAt(t), T.CreateTruncating(2 * gradLambda), w.GradKey, KeyDim);
            Rows<TL, T>.Write(w.GradKey, T.One, call.GradKey.Pointer + KeyAt(t), KeyDim, call.GradKey.Accumulate);
        }

        if (call.GradQuery.IsWanted)
        {
            Rows<TL, T>.Write(w.GradQuery, T.One, call.GradQuery.Pointer + KeyAt(t), KeyDim, call.GradQuery.Accumulate);
        }

        if (call.GradValue.IsWanted)
        {
            Rows<TL, T>.Write(w.GradUpdate, w.Write[t], call.GradValue.Pointer + ValueAt(t), lane.Columns, call.GradValue.Accumulate);
        }
    }
}
