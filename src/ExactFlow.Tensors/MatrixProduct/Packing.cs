using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics.X86;
using ExactFlow.Tensors.Simd;

namespace ExactFlow.Tensors.MatrixProduct;

/// <summary>
/// Copies parts of B, and of a transposed A, into the order in which the kernels read them. A becomes panels of <see cref="Height{TV}"/> rows, B panels of two vectors of
/// columns; within a panel, the elements of one step of k lie side by side. Rows and columns that do not exist are zeros.
/// </summary>
internal static unsafe class Packing
{
    /// <summary>
    /// Floats between the end of a panel and the next: room for the whole vectors that narrower rows are written with, and a distance
    /// that is no power of two, or the panels written side by side would compete for the same lines of the first-level cache.
    /// </summary>
    private const int Slack = 16;

    /// <summary>How many stored rows ahead the next ones are fetched: they are short and far apart, which the hardware does not guess.</summary>
    private const int PrefetchedRows = 6;

    /// <summary>Rows of a panel of A: 12 with the 32 registers of AVX-512, 6 with 16 registers of eight lanes, else 4.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static int Height<TV>()
        where TV : struct, IFloatVector<TV>
        => TV.Count == 16 ? 12 : TV.Count == 8 ? 6 : 4;

    /// <summary>Columns of a panel of B.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static int Width<TV>()
        where TV : struct, IFloatVector<TV>
        => 2 * TV.Count;

    /// <summary>Floats from one panel of A to the next, for <paramref name="depth"/> steps of k.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static nint LeftStride<TV>(int depth)
        where TV : struct, IFloatVector<TV>
        => ((nint)depth * Height<TV>()) + Slack;

    /// <summary>Floats from one panel of B to the next.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static nint RightStride<TV>(int depth)
        where TV : struct, IFloatVector<TV>
        => ((nint)depth * Width<TV>()) + Slack;

    /// <summary>Packs rows of op(A) into panels, A being stored transposed.</summary>
    /// <param name="rows">Rows, any number.</param>
    /// <param name="depth">Steps of k.</param>
    /// <param name="a">The first element.</param>
    /// <param name="lda">Floats from one stored row to the next.</param>
    /// <param name="destination">The first panel.</param>
    /// <param name="panelStride">Floats from one panel to the next.</param>
    public static void Left<TV>(int rows, int depth, float* a, nint lda, float* destination, nint panelStride)
        where TV : struct, IFloatVector<TV>
        => CopyAcross<TV>(rows, depth, a, lda, destination, Height<TV>(), panelStride);

    /// <summary>Packs columns of B into panels.</summary>
    /// <param name="columns">Columns, any number.</param>
    /// <param name="depth">Steps of k.</param>
    /// <param name="b">The first element.</param>
    /// <param name="ldb">Floats from one stored row to the next.</param>
    /// <param name="transposed">Whether the stored rows run along k instead of n.</param>
    /// <param name="destination">The first panel.</param>
    /// <param name="panelStride">Floats from one panel to the next.</param>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void Right<TV>(int columns, int depth, float* b, nint ldb, bool transposed, float* destination, nint panelStride)
        where TV : struct, IFloatVector<TV>
    {
        if (!transposed)
        {
            CopyAcross<TV>(columns, depth, b, ldb, destination, Width<TV>(), panelStride);
            return;
        }

        for (int j = 0; j < columns; j += Width<TV>())
        {
            int first = Math.Min(TV.Count, columns - j);
            int second = Math.Min(TV.Count, columns - j - first);
            TransposeInto<TV>(first, depth, b + (j * ldb), ldb, destination);
            TransposeInto<TV>(second, depth, b + ((j + first) * ldb), ldb, destination + TV.Count);
            destination += panelStride;
        }
    }

    /// <summary>Source rows run across the panels: each gives every panel one step. Read row by row, as the memory lies.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void CopyAcross<TV>(int across, int depth, float* source, nint sourceStride, float* destination, int width, nint panelStride)
        where TV : struct, IFloatVector<TV>
    {
        for (int p = 0; p < depth; p++)
        {
            float* from = source + (p * sourceStride);
            float* to = destination + ((nint)p * width);
            float* ahead = from + (PrefetchedRows * sourceStride);
            int i = 0;
            for (; i + width <= across; i += width)
            {
                Prefetch(ahead + i, width);
                if (width > TV.Count)
                {
                    for (int lane = 0; lane < width; lane += TV.Count)
                    {
                        TV.Load(from + i + lane).Store(to + lane);
                    }
                }
                else if (p + 1 < depth)
                {
                    TV.LoadPartial(from + i, width).Store(to);
                }
                else
                {
                    // What follows the last step may belong to somebody else.
                    TV.LoadPartial(from + i, width).StorePartial(to, width);
                }

                to += panelStride;
            }

            for (int rest = i; rest < across || (rest > i && rest < i + width); rest++)
            {
                to[rest - i] = rest < across ? from[rest] : 0;
            }
        }
    }

    /// <summary>Fetches a part of a row; beyond the end of an operand this does nothing.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Prefetch(float* source, int count)
    {
        if (Sse.IsSupported)
        {
            for (int i = 0; i < count; i += 16)
            {
                Sse.Prefetch0(source + i);
            }
        }
    }

    /// <summary>Source rows run along k: blocks are transposed in registers. Fills one vector of a panel of B per step, zeros from <paramref name="rows"/> on.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void TransposeInto<TV>(int rows, int depth, float* source, nint sourceStride, float* destination)
        where TV : struct, IFloatVector<TV>
    {
        int p = 0;
        if (rows > 0)
        {
            for (; p + TV.Count <= depth; p += TV.Count)
            {
                TV.TransposeBlock(source + p, sourceStride, rows, destination + ((nint)p * Width<TV>()), Width<TV>());
            }
        }

        for (; p < depth; p++)
        {
            for (int i = 0; i < TV.Count; i++)
            {
                destination[((nint)p * Width<TV>()) + i] = i < rows ? source[(i * sourceStride) + p] : 0;
            }
        }
    }
}
