using System.Numerics;
using System.Runtime.InteropServices;
using ExactFlow.Cuda;
using ExactFlow.Tensors;

namespace ExactFlow.Operators;

/// <summary>
/// How rows are spread over the threads of a GPU, for the kernels of rows.cuh: few threads per short row, several rows in a warp; a whole block per long row.
/// </summary>
internal readonly struct CudaRows
{
    /// <summary>The longest row that threads hold in registers.</summary>
    public const int MaxDimension = 8192;

    private const int WarpSize = 32;

    /// <summary>Rows of which a thread of <see cref="Form.Few"/> has a piece at a time, and how often at most.</summary>
    private const int FewRows = 4, FewTurns = 4;

    private readonly Form form;
    private readonly DType type;
    private readonly RowsArgument argument;

    private CudaRows(DType type, Form form, long count, int dimension, int lanes)
    {
        this.type = type;
        this.form = form;
        argument = new RowsArgument { Count = count, Dimension = dimension, Lanes = lanes };
    }

    private enum Form
    {
        /// <summary>Two pieces of 16 bytes per thread.</summary>
        Short,

        /// <summary>Four pieces of 16 bytes per thread.</summary>
        Long,

        /// <summary>One piece of 16 bytes per thread of each of four rows.</summary>
        Few,

        /// <summary>Eight elements per thread, one by one: rows that do not begin at multiples of 16 bytes.</summary>
        Odd,
    }

    /// <summary>The first member of the kernels' arguments.</summary>
    public RowsArgument Argument => argument;

    /// <summary>Length of a row.</summary>
    public int Dimension => argument.Dimension;

    /// <summary>Whether a gradient goes through few rows, which are divided among threads in another way than forwards: sums over a row round differently.</summary>
    public bool IsFew => form == Form.Few;

    /// <summary>The same for <see cref="Backward"/> with rows of <paramref name="tensors"/> tensors fetched ahead, where they lie within warps.</summary>
    /// <param name="device">Where it runs.</param>
    /// <param name="tensors">Tensors whose rows a thread reads.</param>
    public RowsArgument ArgumentAhead(CudaDevice device, int tensors)
        => argument with { Ahead = form is Form.Short or Form.Long && argument.Lanes <= WarpSize && AheadBytes(tensors) <= device.MaxSharedBytes ? tensors : 0 };

    /// <summary>Blocks for <see cref="Backward"/>: as many partial sums are left to be added.</summary>
    /// <param name="device">Where it runs.</param>
    public int BackwardBlocks(CudaDevice device)
        => (int)Math.Min(Blocks(BackwardThreads), (form == Form.Short ? 3L : 2L) * device.MultiprocessorCount);

    /// <summary>
    /// The plan for the gradient of a norm. Rows that are short and so few that the second-level cache holds them are soon computed on, and waiting for them
    /// would be most of the time: threads take four at once then.
    /// </summary>
    /// <param name="device">Where it runs.</param>
    public CudaRows ForNormGradient(CudaDevice device)
    {
        int pieces = Dimension / (16 / type.Size());
        if (form != Form.Short || pieces > WarpSize)
        {
            return this;
        }

        var few = new CudaRows(type, Form.Few, argument.Count, Dimension, LanesFor(pieces, 1));
        return few.Blocks(BackwardThreads) <= (long)FewTurns * 2 * device.MultiprocessorCount ? few : this;
    }

    /// <summary>Plans for the rows of a tensor.</summary>
    /// <param name="operation">The operator, for the message.</param>
    /// <param name="x">What the rows are of.</param>
    /// <param name="addresses">All addresses that kernels will load from or store to, or-ed together: 16 bytes at once go where all are multiples of 16.</param>
    /// <exception cref="InvalidInputException">Rows are longer than <see cref="MaxDimension"/>.</exception>
    public static CudaRows Of(string operation, Tensor x, nint addresses)
    {
        int dimension = x.Shape[^1];
        if (dimension > MaxDimension)
        {
            throw new InvalidInputException(
                $"{operation} on {x.Device.Name} takes rows of at most {MaxDimension} elements, but x {x.Shape} has {dimension}: reshape it, or use --device cpu.");
        }

        int pieceLength = 16 / x.DType.Size();
        long count = x.Shape.RowCount();
        if (dimension % pieceLength != 0 || addresses % 16 != 0)
        {
            return new CudaRows(x.DType, Form.Odd, count, dimension, LanesFor(dimension, 8));
        }

        int pieces = dimension / pieceLength;
        return pieces <= 2 * WarpSize
            ? new CudaRows(x.DType, Form.Short, count, dimension, LanesFor(pieces, 2))
            : new CudaRows(x.DType, Form.Long, count, dimension, LanesFor(pieces, 4));
    }

    /// <summary>Launches a kernel in which every block has its own rows.</summary>
    public void Forward<T>(CudaDevice device, string source, RowKernel kernel, in T arguments)
        where T : unmanaged
    {
        const int Threads = 128;
        if (argument.Count > 0)
        {
            CudaLaunch.Run(device, source, NameIn(kernel), type, new LaunchGeometry(checked((int)Blocks(Threads)), 1, 1, BlockOf(Threads), 1, 1, 0), arguments);
        }
    }

    /// <summary>Launches a kernel in which <see cref="BackwardBlocks"/> blocks take turns with the rows and sum over theirs.</summary>
    /// <param name="device">Where it runs.</param>
    /// <param name="source">The file.</param>
    /// <param name="kernel">Its kernel.</param>
    /// <param name="arguments">Begins with <see cref="Argument"/> or <see cref="ArgumentAhead"/>.</param>
    /// <param name="ahead"><see cref="RowsArgument.Ahead"/> of the arguments.</param>
    public void Backward<T>(CudaDevice device, string source, RowKernel kernel, in T arguments, int ahead = 0)
        where T : unmanaged
    {
        if (argument.Count > 0)
        {
            int threads = BlockOf(BackwardThreads);
            int shared = argument.Lanes > WarpSize ? 0 : Math.Max(threads / WarpSize * argument.Dimension * sizeof(float), AheadBytes(ahead));
            CudaLaunch.Run(device, source, NameIn(kernel), type, new LaunchGeometry(BackwardBlocks(device), 1, 1, threads, 1, 1, shared), arguments);
        }
    }

    private const int BackwardThreads = 256;

    /// <summary>Threads that hold a row of <paramref name="pieces"/>: a power of two within a warp, whole warps beyond.</summary>
    private static int LanesFor(int pieces, int piecesPerThread)
    {
        int lanes = (pieces + piecesPerThread - 1) / piecesPerThread;
        return lanes <= WarpSize ? (int)BitOperations.RoundUpToPowerOf2((uint)lanes) : (lanes + WarpSize - 1) / WarpSize * WarpSize;
    }

    /// <summary>Two rows of each tensor for every row of a block: the one that is computed on and the one that comes.</summary>
    private int AheadBytes(int tensors) => 2 * tensors * (form == Form.Short ? 2 : 4) * BackwardThreads * 16;

    private int BlockOf(int threads) => argument.Lanes > WarpSize ? argument.Lanes : threads;

    private long Blocks(int threads)
    {
        int rowsPerBlock = BlockOf(threads) / argument.Lanes * (form == Form.Few ? FewRows : 1);
        return (argument.Count + rowsPerBlock - 1) / rowsPerBlock;
    }

    private KernelName NameIn(RowKernel kernel) => form switch
    {
        Form.Short => kernel.Short,
        Form.Long => kernel.Long,
        Form.Few => kernel.Few,
        _ => kernel.Odd,
    };
}

/// <summary><c>Rows</c> of rows.cuh.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct RowsArgument
{
    public long Count;
    public int Dimension, Lanes;

    /// <summary>Tensors whose rows are fetched ahead into shared memory; 0 for none.</summary>
    public int Ahead;
}

/// <summary>The names of the instances of a kernel over rows; gradients of norms alone have one for few rows.</summary>
internal readonly record struct RowKernel(KernelName Short, KernelName Long, KernelName Odd, KernelName Few)
{
    /// <summary>The instances of a kernel template (ROW_KERNELS, FEW_ROWS_GRADIENT); keep the result in a static field.</summary>
    public static RowKernel Of(string name)
        => new(KernelName.Of(name + "_short"), KernelName.Of(name + "_long"), KernelName.Of(name + "_odd"), KernelName.Of(name + "_few"));
}
