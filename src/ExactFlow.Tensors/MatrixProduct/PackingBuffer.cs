using System.Runtime.InteropServices;

namespace ExactFlow.Tensors.MatrixProduct;

/// <summary>
/// Native memory of a thread for packed operands: grows to the largest product seen and stays, so that a steady step allocates nothing.
/// Two areas, because a packed A and a packed B exist at the same time.
/// </summary>
internal sealed unsafe class PackingBuffer
{
    private const nuint Alignment = 4096;

    [ThreadStatic]
    private static PackingBuffer? left;

    [ThreadStatic]
    private static PackingBuffer? right;

    private float* memory;
    private long capacity;

    private PackingBuffer()
    {
    }

    ~PackingBuffer()
    {
        NativeMemory.AlignedFree(memory);
    }

    /// <summary>The calling thread's area for A, at least <paramref name="floats"/> long; contents undefined.</summary>
    public static float* Left(long floats) => (left ??= new PackingBuffer()).Reserve(floats);

    /// <summary>The calling thread's area for B, at least <paramref name="floats"/> long; contents undefined.</summary>
    public static float* Right(long floats) => (right ??= new PackingBuffer()).Reserve(floats);

    private float* Reserve(long floats)
    {
        if (floats > capacity)
        {
            NativeMemory.AlignedFree(memory);
            memory = null;
            capacity = 0;
            memory = (float*)NativeMemory.AlignedAlloc(checked((nuint)floats * sizeof(float)), Alignment);
            capacity = floats;
        }

        return memory;
    }
}
