using System.Numerics;
using System.Runtime.CompilerServices;

namespace ExactFlow.Operators;

/// <summary>
/// The recurrent form of one lane: token by token, the state in the first cache, one pass over it per token.
/// With p = S^T k, r = S^T q and u = w v - e g p, the output is <c>scale (g r + (k.q) u)</c>, which needs only the state before the token.
/// So the pass that writes <c>S = g S + k u^T</c> gathers p and r of the next token from what it writes: 6 K V operations, one load and one store per element.
/// This file: the pass forwards; backwards in RecurrentKernel.Backward.cs.
/// </summary>
internal unsafe partial struct RecurrentKernel<TL, T>
    where TL : struct, ILanes<TL, T>
    where T : unmanaged, IFloatingPointIeee754<T>
{
    private readonly DeltaRuleCall<T> call;
    private readonly RecurrentWorkspace<T> w;
    private readonly Lane lane;

    /// <summary>Row of the block's first token, and how many it has.</summary>
    private long token;
    private int count;

    public RecurrentKernel(in DeltaRuleCall<T> call, in RecurrentWorkspace<T> workspace, Lane lane)
    {
        this.call = call;
        w = workspace;
        this.lane = lane;
    }

    private readonly int KeyDim => call.Sizes.KeyDim;

    private readonly long ValueAt(int t) => call.ValueOffset(token + t, lane.Head) + lane.FirstColumn;

    private readonly long KeyAt(int t) => call.KeyOffset(token + t, lane.Head);

    private readonly long ScalarAt(int t) => call.ScalarOffset(token + t, lane.Head);

    private readonly long StateAt(int outer) => call.StateOffset(outer, lane.Head) + lane.FirstColumn;

    /// <summary>Output and final state of the lane; states before each chunk too if the call has room for them.</summary>
    public void Forward()
    {
        // The final state is worked on where it will be, if its rows are whole vectors; otherwise in a padded copy.
        bool inPlace = call.FinalState != null && lane.Columns % TL.Count == 0;
        T* state = inPlace ? call.FinalState + StateAt(lane.Sequence) : w.State;
        nint row = inPlace ? call.Sizes.ValueDim : w.ValueRow;
        StartState(state, row);
        int length = call.Length(lane.Sequence);
        int chunk = call.ChunkStates == null ? 0 : call.FirstChunk(lane.Sequence);
        int block = call.ChunkStates == null ? RecurrentWorkspace<T>.BlockLength : call.ChunkLength;
        for (int first = 0; first < length; first += block, chunk++)
        {
            if (call.ChunkStates != null)
            {
                Rows<TL, T>.Copy(state, row, call.ChunkStates + StateAt(chunk), call.Sizes.ValueDim, KeyDim, lane.Columns);
            }

            LoadBlock(call.FirstToken(lane.Sequence) + first, Math.Min(block, length - first));
            RunBlock(state, row);
        }

        if (call.FinalState != null && !inPlace)
        {
            Rows<TL, T>.Copy(state, row, call.FinalState + StateAt(lane.Sequence), call.Sizes.ValueDim, KeyDim, lane.Columns);
        }
    }

    private readonly void StartState(T* state, nint row)
    {
        T* initial = call.InitialState == null ? null : call.InitialState + StateAt(lane.Sequence);
        for (int i = 0; i < KeyDim && initial != state; i++)
        {
            if (initial == null)
            {
                new Span<T>(state + (i * row), lane.Columns).Clear();
            }
            else
            {
                Rows<TL, T>.Scale(initial + (i * call.Sizes.ValueDim), T.One, state + (i * row), lane.Columns);
            }
        }
    }

    /// <summary>Coefficients and the products k.q of a block of tokens.</summary>
    private void LoadBlock(long firstToken, int tokens)
    {
        token = firstToken;
        count = tokens;
        for (int t = 0; t < count; t++)
        {
            T* k = call.Key + KeyAt(t);
            double lambda = double.CreateTruncating(Rows<TL, T>.Dot(k, k, KeyDim));
            DeltaCoefficients c = call.Rule.Evaluate(call.BetaAt(ScalarAt(t)), lambda, call.LogDecayAt(ScalarAt(t)));
            double g = c.LogDecay == 0 ? 1 : Math.Exp(c.LogDecay);
            w.Lambda[t] = lambda;
            w.Keep[t] = T.CreateTruncating(g);
            w.Erase[t] = T.CreateTruncating(c.Erase);
            w.Write[t] = T.CreateTruncating(c.Write);
            w.KeyQuery[t] = call.HasOutput ? Rows<TL, T>.Dot(k, call.Query + KeyAt(t), KeyDim) : T.Zero;
        }
    }

    private readonly void RunBlock(T* state, nint row)
    {
        int vectors = Tile<TL, T>.Vectors(lane.Columns);
        for (int first = 0; first < vectors; first += TL.TileWidth)
        {
            int width = Math.Min(TL.TileWidth, vectors - first);
            RunPanel(width, first * TL.Count, state + (first * TL.Count), row);
        }
    }

    /// <summary>All tokens of the block for up to <see cref="ILanes{TSelf, T}.TileWidth"/> vectors of columns.</summary>
    private readonly void RunPanel(int width, int column, T* state, nint row)
    {
        int columns = Math.Min(width * TL.Count, lane.Columns - column);
        Recall(width, state, row, call.Key + KeyAt(0), QueryOf(0));
        for (int t = 0; t < count; t++)
        {
            T g = w.Keep[t];
            Rows<TL, T>.Scale(call.Value + ValueAt(t) + column, w.Write[t], w.Update, columns);
            Rows<TL, T>.AddScaled(w.Recalled, -w.Erase[t] * g, w.Update, columns);
            if (call.HasOutput)
            {
                Rows<TL, T>.Scale(w.Read, call.Scale * g, w.Output, columns);
                Rows<TL, T>.AddScaled(w.Update, call.Scale * w.KeyQuery[t], w.Output, columns);
                Rows<TL, T>.Scale(w.Output, T.One, call.Output + ValueAt(t) + column, columns);
            }

            int next = Math.Min(t + 1, count - 1);
            Advance(width, state, row, g, call.Key + KeyAt(t), call.Key + KeyAt(next), QueryOf(next));
        }
    }

    /// <summary>The query of a token. Without queries the key stands in and r is never read: the form is for few tokens, where the load of the state is what counts.</summary>
    private readonly T* QueryOf(int t) => (call.HasOutput ? call.Query : call.Key) + KeyAt(t);

    /// <summary>p = S^T k and r = S^T q.</summary>
    private readonly void Recall(int width, T* state, nint row, T* key, T* query)
    {
        for (int j = 0; j < width; j++)
        {
            TL p = TL.Zero;
            TL r = TL.Zero;
            for (int i = 0; i < KeyDim; i++)
            {
                TL s = TL.Load(state + (i * row) + (j * TL.Count));
                p = TL.MultiplyAdd(TL.Broadcast(key[i]), s, p);
                r = TL.MultiplyAdd(TL.Broadcast(query[i]), s, r);
            }

            p.Store(w.Recalled + (j * TL.Count));
            r.Store(w.Read + (j * TL.Count));
        }
    }

    private readonly void Advance(int width, T* state, nint row, T keep, T* key, T* nextKey, T* nextQuery)
    {
        switch (width)
        {
            case 4:
                Advance<Width4>(state, row, keep, key, nextKey, nextQuery);
                break;
            case 3:
                Advance<Width3>(state, row, keep, key, nextKey, nextQuery);
                break;
            case 2:
                Advance<Width2>(state, row, keep, key, nextKey, nextQuery);
                break;
            default:
                Advance<Width1>(state, row, keep, key, nextKey, nextQuery);
                break;
        }
    }

    /// <summary>S = g S + k u^T, and p and r of the next token from the new S.</summary>
    private readonly void Advance<TWidth>(T* state, nint row, T keep, T* key, T* nextKey, T* nextQuery)
        where TWidth : struct, IWidth
    {
        if (keep == T.One)
        {
            Advance<TWidth, KeepAll>(KeyDim, state, row, keep, key, nextKey, nextQuery, w.Update, w.Recalled, w.Read);
        }
        else
        {
            Advance<TWidth, KeepPart>(KeyDim, state, row, keep, key, nextKey, nextQuery, w.Update, w.Recalled, w.Read);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Advance<TWidth, TKeep>(int keyDim, T* state, nint row, T keep, T* key, T* nextKey, T* nextQuery, T* update, T* recalled, T* read)
        where TWidth : struct, IWidth
        where TKeep : struct, IKeep
    {
        TL u0 = TL.Load(update);
        TL u1 = TWidth.Count > 1 ? TL.Load(update + TL.Count) : TL.Zero;
        TL u2 = TWidth.Count > 2 ? TL.Load(update + (2 * TL.Count)) : TL.Zero;
        TL u3 = TWidth.Count > 3 ? TL.Load(update + (3 * TL.Count)) : TL.Zero;
        TL p0 = TL.Zero, p1 = TL.Zero, p2 = TL.Zero, p3 = TL.Zero;
        TL r0 = TL.Zero, r1 = TL.Zero, r2 = TL.Zero, r3 = TL.Zero;
        TL g = TL.Broadcast(keep);
        for (int i = 0; i < keyDim; i++)
        {
            TL k = TL.Broadcast(key[i]);
            TL nk = TL.Broadcast(nextKey[i]);
            TL nq = TL.Broadcast(nextQuery[i]);
            TL s = TL.Load(state);
            s = TL.MultiplyAdd(k, u0, TKeep.IsAll ? s : g * s);
            s.Store(state);
            p0 = TL.MultiplyAdd(nk, s, p0);
            r0 = TL.MultiplyAdd(nq, s, r0);
            if (TWidth.Count > 1)
            {
                s = TL.Load(state + TL.Count);
                s = TL.MultiplyAdd(k, u1, TKeep.IsAll ? s : g * s);
                s.Store(state + TL.Count);
                p1 = TL.MultiplyAdd(nk, s, p1);
                r1 = TL.MultiplyAdd(nq, s, r1);
            }

            if (TWidth.Count > 2)
            {
                s = TL.Load(state + (2 * TL.Count));
                s = TL.MultiplyAdd(k, u2, TKeep.IsAll ? s : g * s);
                s.Store(state + (2 * TL.Count));
                p2 = TL.MultiplyAdd(nk, s, p2);
                r2 = TL.MultiplyAdd(nq, s, r2);
            }

            if (TWidth.Count > 3)
            {
                s = TL.Load(state + (3 * TL.Count));
                s = TL.MultiplyAdd(k, u3, TKeep.IsAll ? s : g * s);
                s.Store(state + (3 * TL.Count));
                p3 = TL.MultiplyAdd(nk, s, p3);
                r3 = TL.MultiplyAdd(nq, s, r3);
            }

            state += row;
        }

        p0.Store(recalled);
        r0.Store(read);
        if (TWidth.Count > 1)
        {
            p1.Store(recalled + TL.Count);
            r1.Store(read + TL.Count);
        }

        if (TWidth.Count > 2)
        {
            p2.Store(recalled + (2 * TL.Count));
            r2.Store(read + (2 * TL.Count));
        }

        if (TWidth.Count > 3)
        {
            p3.Store(recalled + (3 * TL.Count));
            r3.Store(read + (3 * TL.Count));
        }
    }

    /// <summary>Whether the state decays, known to the compiler.</summary>
    private interface IKeep
    {
        static abstract bool IsAll { get; }
    }

    private readonly struct KeepAll : IKeep
    {
        public static bool IsAll => true;
    }

    private readonly struct KeepPart : IKeep
    {
        public static bool IsAll => false;
    }
}
