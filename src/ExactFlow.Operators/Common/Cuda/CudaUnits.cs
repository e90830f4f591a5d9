using System.Runtime.InteropServices;
using ExactFlow.Cuda;
using ExactFlow.Tensors;

namespace ExactFlow.Operators;

/// <summary>How kernels cut tensors into pieces of 16 bytes, and threads over rows and columns; the other side of <c>units.cuh</c>.</summary>
internal static class CudaUnits
{
    /// <summary>Threads of a block.</summary>
    public const int Threads = 256;

    /// <summary>Elements in 16 bytes.</summary>
    public static int Piece(DType type) => 16 / type.Size();

    /// <summary>Whether every address is a multiple of 16 (views of single rows need not be). Null ones are.</summary>
    public static bool AreAligned(nint a, nint b = 0, nint c = 0, nint d = 0, nint e = 0) => ((a | b | c | d | e) & 15) == 0;

    /// <summary>A grid for <c>map</c>: a thread per piece, or per element where addresses do not allow pieces.</summary>
    public static LaunchGeometry Along(CudaDevice device, long count, DType type, bool whole)
        => CudaLaunch.Grid(device, whole ? (count + Piece(type) - 1) / Piece(type) : count, Threads);
}

/// <summary>Arguments of elementwise kernels; <c>MapArgs</c> of units.cuh.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct CudaMap
{
    public CudaTarget To;
    public nint A, B;
    public long Count, Whole;
    public float Factor;

    /// <summary>to (+)= f(a, b), all of <paramref name="count"/> elements.</summary>
    public CudaMap(CudaTarget to, nint a, nint b, long count)
    {
        (To, A, B, Count) = (to, a, b, count);
        Whole = CudaUnits.AreAligned(to.Address, a, b) ? 1 : 0;
    }

    /// <summary>Queues a kernel of this argument block; nothing for no elements.</summary>
    public readonly void Run(CudaDevice device, string source, KernelName kernel, DType type)
    {
        if (Count > 0)
        {
            CudaLaunch.Run(device, source, kernel, type, CudaUnits.Along(device, Count, type, Whole != 0), this);
        }
    }
}

/// <summary>Rows of equal length walked by columns; <c>Columns</c> of units.cuh.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct CudaColumns
{
    public long Rows;
    public int Units, Shift;

    /// <summary>A walk over <paramref name="rows"/> rows of <paramref name="units"/> units, at least one of each.</summary>
    public CudaColumns(long rows, int units)
    {
        (Rows, Units) = (rows, units);
        while (Shift < 8 && 1 << Shift < units)
        {
            Shift++;
        }
    }

    /// <summary>Rows that a block takes at a time.</summary>
    public readonly int Lanes => CudaUnits.Threads >> Shift;

    /// <summary>Blocks over the columns.</summary>
    private readonly int Tiles => (int)(((long)Units + (1 << Shift) - 1) >> Shift);

    /// <summary>A grid that fills the GPU, but gives each block at least <paramref name="rowsPerLane"/> rows in turn where there are so many.</summary>
    /// <param name="blocksPerMultiprocessor">The most blocks in all, per multiprocessor: few where each one leaves partial sums behind.</param>
    public readonly LaunchGeometry Geometry(CudaDevice device, int rowsPerLane = 1, int blocksPerMultiprocessor = 16)
    {
        long most = Math.Max(1, (long)blocksPerMultiprocessor * device.MultiprocessorCount / Tiles);
        long wanted = (Rows + ((long)Lanes * rowsPerLane) - 1) / ((long)Lanes * rowsPerLane);
        return new((int)Math.Clamp(wanted, 1, most), Tiles, 1, CudaUnits.Threads, 1, 1, 0);
    }
}
