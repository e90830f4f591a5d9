namespace ExactFlow.Operators;

/// <content>The pass forwards.</content>
internal unsafe ref partial struct ChunkKernel<TL, T>
{
    /// <summary>Output and final state of the lane; states before each chunk too if the call has room for them.</summary>
    public void Forward()
    {
        if (call.InitialState != null)
        {
            LoadState(call.InitialState, lane.Sequence, w.State);
        }

        int length = call.Length(lane.Sequence);
        int chunk = call.ChunkStates == null ? 0 : call.FirstChunk(lane.Sequence);
        for (int first = 0; first < length; first += call.ChunkLength, chunk++)
        {
            if (call.ChunkStates != null)
            {
                SaveState(w.State, call.ChunkStates, chunk);
            }

            LoadChunk(call.FirstToken(lane.Sequence) + first, Math.Min(call.ChunkLength, length - first), wantQueries: true);
            SolveUpdates(w.State);
            WriteOutputs();
            AdvanceState();
        }

        if (call.FinalState != null)
        {
            SaveState(w.State, call.FinalState, lane.Sequence);
        }
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
