namespace ExactFlow.Operators;

/// <content>The pass forwards.</content>
internal unsafe partial struct ChunkKernel<TL, T>
{
    /// <summary>Output of the lane; states before each chunk too if the call has room for them.</summary>
    /// <param name="start">This lane's columns of the state before its first chunk, or null for zero.</param>
    /// <param name="end">Where those of the state after its last chunk go, or null.</param>
    public void Forward(T* start, T* end)
    {
        LoadState(start, w.State);
        for (int chunk = lane.FirstChunk; chunk < lane.EndChunk; chunk++)
        {
            SaveState(w.State, call.ChunkStates == null ? null : ChunkState(chunk));
            LoadChunk(chunk, call.HasOutput);
            SolveUpdates(w.State);
            if (call.HasOutput)
            {
                WriteOutputs();
            }

            AdvanceState();
        }

        SaveState(w.State, end);
    }

    /// <summary>The state after the lane, without outputs.</summary>
    public void CarryForward(T* start, T* end)
    {
        LoadState(start, w.State);
        for (int chunk = lane.FirstChunk; chunk < lane.EndChunk; chunk++)
        {
            LoadChunk(chunk, wantQueries: false);
            SolveUpdates(w.State);
            AdvanceState();
        }

        SaveState(w.State, end);
    }

    /// <summary>
    /// The lane's transition: the [keyDim, keyDim] matrix that takes the state before it to its part of the state after it. A state of keyDim columns,
    /// the identity at first, is carried through with values of zero; the lane must have keyDim columns.
    /// </summary>
    public void Transition(T* transition)
    {
        for (int i = 0; i < KeyDim; i++)
        {
            w.State[(i * w.ValueRow) + i] = T.One;
        }

        for (int chunk = lane.FirstChunk; chunk < lane.EndChunk; chunk++)
        {
            LoadChunk(chunk, wantQueries: false);
            SolveUpdates(w.State, withValues: false);
            AdvanceState();
        }

        Rows<TL, T>.Copy(w.State, w.ValueRow, transition, KeyDim, KeyDim, KeyDim);
    }

    /// <summary>O = (gamma Q) S + P U.</summary>
    private readonly void WriteOutputs()
    {
        Tile<TL, T>.Multiply(count, lane.Columns, KeyDim, w.QueriesFromStart, w.KeyRow, 1, w.State, w.ValueRow, w.Outputs, w.ValueRow, accumulate: false);
        Tile<TL, T>.Multiply(count, lane.Columns, count, w.Attention, w.TokenRow, 1, w.Updates, w.ValueRow, w.Outputs, w.ValueRow, accumulate: true, Band.LowerLeft);
        for (int t = 0; t < count; t++)
        {
            Rows<TL, T>.Scale(w.Outputs + (t * w.ValueRow), T.One, call.Output + ValueAt(t), lane.Columns);
        }
    }

    /// <summary>S = gamma_C S + (delta Kn)^T U.</summary>
    private readonly void AdvanceState()
    {
        DecayState(w.State);
        AddOuterProducts(w.KeysToEnd, w.Updates, w.State);
    }
}
