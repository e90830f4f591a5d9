using System.Numerics;

namespace ExactFlow.Operators;

/// <summary>Memory of the recurrent form for one worker: the state, rows of one token, coefficients of a block of tokens, and backwards the states within a block.</summary>
internal unsafe struct RecurrentWorkspace<T>
    where T : unmanaged, IFloatingPointIeee754<T>
{
    /// <summary>Tokens whose coefficients are evaluated at a time when no chunk states are asked for.</summary>
    public const int BlockLength = 64;

    private const int Padding = 16;

    /// <summary>Elements between rows of the states.</summary>
    public readonly nint ValueRow;

    // KeyDim x valueDim; States holds one more than the tokens of a block.
    public readonly T* State;
    public readonly T* GradState;
    public readonly T* States;

    // Per value column.
    public readonly T* Update;
    public readonly T* Recalled;
    public readonly T* Read;
    public readonly T* Output;
    public readonly T* GradUpdate;
    public readonly T* GradRecalled;
    public readonly T* Value;

    // Per key dimension.
    public readonly T* GradKey;
    public readonly T* GradQuery;

    // Per token.
    public readonly T* Keep;
    public readonly T* Erase;
    public readonly T* Write;
    public readonly T* KeyQuery;
    public readonly double* Lambda;

    private byte* end;

    private RecurrentWorkspace(byte* memory, int tokens, int keyDim, int valueDim, bool backward)
    {
        end = memory;
        ValueRow = RoundUp(valueDim);
        State = Take(keyDim * ValueRow);
        Update = Take(ValueRow);
        Recalled = Take(ValueRow);
        Read = Take(ValueRow);
        Output = Take(ValueRow);
        Keep = Take(tokens);
        Erase = Take(tokens);
        Write = Take(tokens);
        KeyQuery = Take(tokens);
        Lambda = (double*)Take(2 * (nint)tokens);
        if (backward)
        {
            GradUpdate = Take(ValueRow);
            GradRecalled = Take(ValueRow);
            Value = Take(ValueRow);
            GradKey = Take(keyDim);
            GradQuery = Take(keyDim);
            GradState = Take(keyDim * ValueRow);
            States = Take((tokens + 1) * keyDim * ValueRow);
        }
    }

    public static long Bytes(int tokens, int keyDim, int valueDim, bool backward) => (long)new RecurrentWorkspace<T>(null, tokens, keyDim, valueDim, backward).end;

    /// <summary>Lays the arrays out in memory of <see cref="Bytes"/> bytes. Padding columns must be zero; the states are small or written whole, so all but those are cleared.</summary>
    public static RecurrentWorkspace<T> In(byte* memory, int tokens, int keyDim, int valueDim, bool backward)
    {
        var workspace = new RecurrentWorkspace<T>(memory, tokens, keyDim, valueDim, backward);
        byte* uncleared = backward ? (byte*)workspace.States : workspace.end;
        new Span<byte>(memory, checked((int)(uncleared - memory))).Clear();
        return workspace;
    }

    private static nint RoundUp(nint count) => (count + Padding - 1) / Padding * Padding;

    private T* Take(nint count)
    {
        byte* start = end;
        end += RoundUp(count) * sizeof(T);
        return (T*)start;
    }
}
