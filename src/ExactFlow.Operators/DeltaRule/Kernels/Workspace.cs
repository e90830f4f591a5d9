using System.Numerics;

namespace ExactFlow.Operators;

/// <summary>
/// The tiles of one chunk of one head, for one worker: where each lies and how far its rows are apart. Names follow the equations of README.md.
/// Everything starts as zero and padding stays harmless: rows are padded to 16, columns to cache lines.
/// </summary>
/// <remarks>Rows are an odd number of cache lines apart: a panel of columns then uses all sets of the first cache instead of a few.</remarks>
internal unsafe struct Workspace<T>
    where T : unmanaged, IFloatingPointIeee754<T>
{
    private const int LineBytes = 64;
    private const int RowPadding = 16;

    /// <summary>Elements between rows of tiles whose columns are key dimensions, value dimensions, tokens.</summary>
    public readonly nint KeyRow;
    public readonly nint ValueRow;
    public readonly nint TokenRow;

    // Tokens x keyDim.
    public readonly T* Keys;
    public readonly T* ErasingKeys;
    public readonly T* Queries;
    public readonly T* KeysToEnd;
    public readonly T* ErasingKeysFromStart;
    public readonly T* QueriesFromStart;
    public readonly T* GradKeys;
    public readonly T* GradErasingKeys;
    public readonly T* GradQueries;

    // KeyDim x tokens.
    public readonly T* KeysTransposed;

    // Tokens x valueDim.
    public readonly T* Updates;
    public readonly T* Outputs;
    public readonly T* GradUpdates;

    // ValueDim x tokens.
    public readonly T* UpdatesTransposed;

    // KeyDim x valueDim, and transposed.
    public readonly T* State;
    public readonly T* GradState;
    public readonly T* StateTransposed;
    public readonly T* GradStateTransposed;

    // Tokens x tokens.
    public readonly T* Erasure;
    public readonly T* Attention;
    public readonly T* Decay;
    public readonly T* GradErasure;
    public readonly T* GradAttention;

    // Per token.
    public readonly T* Erase;
    public readonly T* Write;
    public readonly T* InverseLength;
    public readonly T* FromStart;
    public readonly T* ToEnd;
    public readonly T* LogHigh;
    public readonly T* LogLow;
    public readonly T* RowSums;
    public readonly T* ColumnSums;
    public readonly double* Lambda;
    public readonly double* LogDecay;
    public readonly double* GradLogDecay;

    private byte* end;

    /// <summary>Lays the tiles out from an address on; from null to find <see cref="Bytes"/>.</summary>
    private Workspace(byte* memory, int tokens, int keyDim, int valueDim, bool decays, bool backward)
    {
        end = memory;
        KeyRow = RowLength(keyDim);
        ValueRow = RowLength(valueDim);
        TokenRow = RowLength(tokens);
        Keys = Take(tokens, KeyRow);
        ErasingKeys = Take(tokens, KeyRow);
        Queries = Take(tokens, KeyRow);
        KeysToEnd = decays ? Take(tokens, KeyRow) : Keys;
        ErasingKeysFromStart = decays ? Take(tokens, KeyRow) : ErasingKeys;
        QueriesFromStart = decays ? Take(tokens, KeyRow) : Queries;
        KeysTransposed = Take(keyDim, TokenRow);
        Updates = Take(tokens, ValueRow);
        Outputs = Take(tokens, ValueRow);
        State = Take(keyDim, ValueRow);
        Erasure = Take(tokens, TokenRow);
        Attention = Take(tokens, TokenRow);
        Decay = decays ? Take(tokens, TokenRow) : null;
        Erase = TakeScalars(TokenRow);
        Write = TakeScalars(TokenRow);
        InverseLength = TakeScalars(TokenRow);
        FromStart = TakeScalars(TokenRow);
        ToEnd = TakeScalars(TokenRow);
        LogHigh = TakeScalars(TokenRow);
        LogLow = TakeScalars(TokenRow);
        Lambda = (double*)TakeScalars(2 * TokenRow);
        LogDecay = (double*)TakeScalars(2 * TokenRow);
        if (backward)
        {
            GradKeys = Take(tokens, KeyRow);
            GradErasingKeys = Take(tokens, KeyRow);
            GradQueries = Take(tokens, KeyRow);
            GradUpdates = Take(tokens, ValueRow);
            UpdatesTransposed = Take(valueDim, TokenRow);
            GradState = Take(keyDim, ValueRow);
            StateTransposed = Take(valueDim, KeyRow);
            GradStateTransposed = Take(valueDim, KeyRow);
            GradErasure = Take(tokens, TokenRow);
            GradAttention = Take(tokens, TokenRow);
            RowSums = TakeScalars(TokenRow);
            ColumnSums = TakeScalars(TokenRow);
            GradLogDecay = (double*)TakeScalars(2 * TokenRow);
        }
    }

    /// <summary>Bytes that the tiles take.</summary>
    public static long Bytes(int tokens, int keyDim, int valueDim, bool decays, bool backward)
        => (long)new Workspace<T>(null, tokens, keyDim, valueDim, decays, backward).end;

    /// <summary>Lays the tiles out in memory of <see cref="Bytes"/> bytes and zeros it.</summary>
    public static Workspace<T> In(byte* memory, int tokens, int keyDim, int valueDim, bool decays, bool backward)
    {
        var workspace = new Workspace<T>(memory, tokens, keyDim, valueDim, decays, backward);
        new Span<byte>(memory, checked((int)(workspace.end - memory))).Clear();
        return workspace;
    }

    private static nint RowLength(int columns)
    {
        int perLine = LineBytes / sizeof(T);
        return (((columns + perLine - 1) / perLine) | 1) * perLine;
    }

    private T* Take(int rows, nint row)
    {
        byte* start = end;
        end += (rows + RowPadding - 1) / RowPadding * RowPadding * row * sizeof(T);
        return (T*)start;
    }

    private T* TakeScalars(nint count)
    {
        byte* start = end;
        end += count * sizeof(T);
        return (T*)start;
    }
}
