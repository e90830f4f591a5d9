using System.Numerics;

namespace ExactFlow.Operators;

/// <summary>
/// The chunkwise form of one lane (section 5 of the method, with the normalised keys of section 4). Within a chunk, with rows for tokens,
/// <c>L</c> the cumulative log decay and <c>G_ri = exp(L_r - L_i)</c>:
/// <code>
///   E = -e kn                     erasing keys          A = strict_lower(E Kn^T . G)
///   (I - A) U = w V + (gamma E) S                       P = lower(Q Kn^T . G)
///   O = (gamma Q) S + P U                               S' = gamma_C S + (delta Kn)^T U
/// </code>
/// where gamma_r = exp(L_r) and delta_i = exp(L_C - L_i). <c>kn = k / |k|</c>, <c>e</c> and <c>w</c> belong to it, and Q holds scale q.
/// This file: loading a chunk and the triangular matrices; the passes are in ChunkKernel.Forward.cs and ChunkKernel.Backward.cs.
/// </summary>
internal unsafe partial struct ChunkKernel<TL, T>
    where TL : struct, ILanes<TL, T>
    where T : unmanaged, IFloatingPointIeee754<T>
{
    /// <summary>Keys shorter than 1e-6 are scaled by 1e6 instead of to unit length.</summary>
    private const double SmallestLambda = 1e-12;

    /// <summary>Tokens by which keys are fetched ahead of their use.</summary>
    private const int KeysAhead = 8;

    /// <summary>Decays below e^-10000 per token are taken as that: still exactly zero, and differences of sums stay numbers.</summary>
    private const double SmallestLogDecay = -1e4;

    private readonly DeltaRuleCall<T> call;
    private readonly Workspace<T> w;
    private readonly Lane lane;
    private readonly bool decays;
    private readonly bool erases;

    /// <summary>Row of the chunk's first token, and how many it has.</summary>
    private long token;
    private int count;

    public ChunkKernel(in DeltaRuleCall<T> call, in Workspace<T> workspace, Lane lane)
    {
        this.call = call;
        w = workspace;
        this.lane = lane;
        decays = call.Rule.Decays;
        erases = call.Rule.Erases;
    }

    private readonly int KeyDim => call.Sizes.KeyDim;

    private readonly long ValueAt(int t) => call.ValueOffset(token + t, lane.Head) + lane.FirstColumn;

    private readonly long KeyAt(int t) => call.KeyOffset(token + t, lane.Head);

    private readonly long ScalarAt(int t) => call.ScalarOffset(token + t, lane.Head);

    /// <summary>This lane's columns of the state before a chunk, counted within the sequence.</summary>
    private readonly T* ChunkState(int chunk) => call.ChunkStates + call.StateOffset(call.FirstChunk(lane.Sequence) + chunk, lane.Head) + lane.FirstColumn;

    /// <summary>Reads this lane's columns of a state; null is zero, which the tile is already.</summary>
    private readonly void LoadState(T* state, T* tile)
    {
        if (state != null)
        {
            Rows<TL, T>.Copy(state, call.Sizes.ValueDim, tile, w.ValueRow, KeyDim, lane.Columns);
        }
    }

    private readonly void SaveState(T* tile, T* state)
    {
        if (state != null)
        {
            Rows<TL, T>.Copy(tile, w.ValueRow, state, call.Sizes.ValueDim, KeyDim, lane.Columns);
        }
    }

    /// <summary>Chooses a chunk, reads its keys and, if wanted, queries, evaluates the rule, and forms A and P.</summary>
    private void LoadChunk(int chunk, bool wantQueries = true, bool isBackward = false)
    {
        int first = chunk * call.ChunkLength;
        token = call.FirstToken(lane.Sequence) + first;
        count = Math.Min(call.ChunkLength, call.Length(lane.Sequence) - first);
        LoadKeys(wantQueries, isBackward);
        if (wantQueries)
        {
            LoadQueries();
        }

        Tile<TL, T>.Transpose(count, KeyDim, w.Keys, w.KeyRow, w.KeysTransposed, w.TokenRow);
        if (decays)
        {
            LoadDecays(wantQueries);
        }

        if (erases)
        {
            KeyProducts(w.ErasingKeys, w.Erasure);
        }

        if (wantQueries)
        {
            KeyProducts(w.Queries, w.Attention);
            ClearAboveDiagonal(w.Attention, keepDiagonal: true);
        }
    }

    private readonly void LoadKeys(bool wantQueries, bool isBackward)
    {
        double logDecay = 0;
        for (int t = 0; t < count; t++)
        {
            FetchToken(t, wantQueries, isBackward);
            T* k = call.Key + KeyAt(t);
            double lambda = double.CreateTruncating(Rows<TL, T>.Dot(k, k, KeyDim));
            DeltaCoefficients c = call.Rule.Evaluate(call.BetaAt(ScalarAt(t)), lambda, call.LogDecayAt(ScalarAt(t)));
            double square = Math.Max(lambda, SmallestLambda);
            double length = Math.Sqrt(square);
            logDecay += Math.Max(c.LogDecay, SmallestLogDecay);
            w.Lambda[t] = lambda;
            w.LogDecay[t] = logDecay;
            w.Erase[t] = T.CreateTruncating(c.Erase * square);
            w.Write[t] = T.CreateTruncating(c.Write * length);
            w.InverseLength[t] = T.CreateTruncating(1 / length);
            Rows<TL, T>.Scale(k, w.InverseLength[t], w.Keys + (t * w.KeyRow), KeyDim);
            if (erases)
            {
                Rows<TL, T>.Scale(w.Keys + (t * w.KeyRow), -w.Erase[t], w.ErasingKeys + (t * w.KeyRow), KeyDim);
            }
        }

        Rows<TL, T>.ClearPadding(w.Keys, w.KeyRow, count);
        Rows<TL, T>.ClearPadding(w.ErasingKeys, w.KeyRow, count);
    }

    /// <summary>
    /// Fetches what later loops over the chunk read and write: rows of one head lie as far apart as all heads are wide, which the hardware does not guess, least
    /// of all where a head is a line or two. Rules take their time, so the keys need only be a few tokens ahead.
    /// </summary>
    private readonly void FetchToken(int t, bool wantQueries, bool isBackward)
    {
        Rows<TL, T>.Fetch(call.Key + KeyAt(t + KeysAhead), KeyDim);
        Rows<TL, T>.Fetch(call.Value + ValueAt(t), lane.Columns);
        if (wantQueries)
        {
            Rows<TL, T>.Fetch(call.Query + KeyAt(t), KeyDim);
            Rows<TL, T>.Fetch((isBackward ? call.GradOutput : call.Output) + ValueAt(t), lane.Columns);
        }

        if (isBackward)
        {
            Rows<TL, T>.Fetch(call.GradQuery.Pointer + KeyAt(t), KeyDim);
            Rows<TL, T>.Fetch(call.GradKey.Pointer + KeyAt(t), KeyDim);
            Rows<TL, T>.Fetch(call.GradValue.Pointer + ValueAt(t), lane.Columns);
        }
    }

    private readonly void LoadQueries()
    {
        for (int t = 0; t < count; t++)
        {
            Rows<TL, T>.Scale(call.Query + KeyAt(t), call.Scale, w.Queries + (t * w.KeyRow), KeyDim);
        }

        Rows<TL, T>.ClearPadding(w.Queries, w.KeyRow, count);
    }

    /// <summary>
    /// The decays between tokens, G, and the keys and queries scaled by those from the chunk's start and to its end.
    /// Differences of logs are taken before exponentiating, with the logs in two parts, so that they are as good as the decays themselves.
    /// </summary>
    private readonly void LoadDecays(bool wantQueries)
    {
        for (int t = 0; t < count; t++)
        {
            w.LogHigh[t] = T.CreateTruncating(w.LogDecay[t]);
            w.LogLow[t] = T.CreateTruncating(w.LogDecay[t] - double.CreateTruncating(w.LogHigh[t]));
            w.FromStart[t] = T.CreateTruncating(Math.Exp(w.LogDecay[t]));
            w.ToEnd[t] = T.CreateTruncating(Math.Exp(w.LogDecay[count - 1] - w.LogDecay[t]));
            long row = t * w.KeyRow;
            Rows<TL, T>.Scale(w.Keys + row, w.ToEnd[t], w.KeysToEnd + row, KeyDim);
            if (erases)
            {
                Rows<TL, T>.Scale(w.ErasingKeys + row, w.FromStart[t], w.ErasingKeysFromStart + row, KeyDim);
            }

            if (wantQueries)
            {
                Rows<TL, T>.Scale(w.Queries + row, w.FromStart[t], w.QueriesFromStart + row, KeyDim);
            }
        }

        Rows<TL, T>.ClearPadding(w.KeysToEnd, w.KeyRow, count);
        Rows<TL, T>.ClearPadding(w.ErasingKeysFromStart, w.KeyRow, count);
        Rows<TL, T>.ClearPadding(w.QueriesFromStart, w.KeyRow, count);
        for (int r = 0; r < count; r++)
        {
            TL high = TL.Broadcast(w.LogHigh[r]);
            TL low = TL.Broadcast(w.LogLow[r]);
            for (int i = 0; i <= r; i += TL.Count)
            {
                TL difference = (high - TL.Load(w.LogHigh + i)) + (low - TL.Load(w.LogLow + i));
                TL.Exp(difference).Store(w.Decay + (r * w.TokenRow) + i);
            }
        }
    }

    /// <summary>lower(left Kn^T . G): the inner products of tokens with keys at or before them, decayed. Elements above the diagonal are arbitrary.</summary>
    private readonly void KeyProducts(T* left, T* products)
    {
        Tile<TL, T>.Multiply(count, count, KeyDim, left, w.KeyRow, 1, w.KeysTransposed, w.TokenRow, products, w.TokenRow, accumulate: false, Band.LowerResult);
        if (decays)
        {
            ApplyDecay(products);
        }
    }

    /// <summary>Multiplies the lower triangle by G.</summary>
    private readonly void ApplyDecay(T* triangle)
    {
        for (int r = 0; r < count; r++)
        {
            Rows<TL, T>.MultiplyBy(w.Decay + (r * w.TokenRow), triangle + (r * w.TokenRow), r + 1);
        }
    }

    /// <summary>Zeros what lies above the diagonal of the blocks on it: the rest of the upper triangle is never read.</summary>
    private readonly void ClearAboveDiagonal(T* triangle, bool keepDiagonal)
    {
        for (int r = 0; r < count; r++)
        {
            int end = ((r / Tile<TL, T>.Rows) + 1) * Tile<TL, T>.Rows;
            for (int i = keepDiagonal ? r + 1 : r; i < end; i++)
            {
                triangle[(r * w.TokenRow) + i] = T.Zero;
            }
        }
    }

    /// <summary>U: the right-hand side w V + (gamma E) S, then the triangular system.</summary>
    private readonly void SolveUpdates(T* state, bool withValues = true)
    {
        if (!withValues)
        {
            new Span<T>(w.Updates, checked((int)(count * w.ValueRow))).Clear();
        }

        for (int t = 0; withValues && t < count; t++)
        {
            Rows<TL, T>.Scale(call.Value + ValueAt(t), w.Write[t], w.Updates + (t * w.ValueRow), lane.Columns);
        }

        Rows<TL, T>.ClearPadding(w.Updates, w.ValueRow, count);
        if (erases)
        {
            Tile<TL, T>.Multiply(count, lane.Columns, KeyDim, w.ErasingKeysFromStart, w.KeyRow, 1, state, w.ValueRow, w.Updates, w.ValueRow, accumulate: true);
            Tile<TL, T>.SolveLower(count, lane.Columns, w.Erasure, w.TokenRow, w.Updates, w.ValueRow);
        }
    }

    /// <summary>left^T right added to a state or its gradient, [keyDim, columns], after scaling it by the decay of the whole chunk.</summary>
    private readonly void AddOuterProducts(T* left, T* right, T* state)
        => Tile<TL, T>.Multiply(KeyDim, lane.Columns, count, left, 1, w.KeyRow, right, w.ValueRow, state, w.ValueRow, accumulate: true);

    /// <summary>state *= gamma_C.</summary>
    private readonly void DecayState(T* state)
    {
        for (int i = 0; decays && i < KeyDim; i++)
        {
            Rows<TL, T>.Scale(state + (i * w.ValueRow), w.FromStart[count - 1], state + (i * w.ValueRow), lane.Columns);
        }
    }
}
