using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics.X86;
using ExactFlow.Tensors.Parallel;
using ExactFlow.Tensors.Simd;

namespace ExactFlow.Tensors.MatrixProduct;

/// <summary>
/// The product of large matrices after Goto and van de Geijn ("Anatomy of High-Performance Matrix Multiplication", 2008) and BLIS.
/// k is cut into slabs. Of each slab, a piece of B is packed into panels by all workers, and one of A where it is stored transposed (else the kernels read
/// its rows where they lie, see README.md). Then every task computes a block of C: its rows of A stay in the second-level cache, while one panel of B after
/// the other passes through the first.
/// </summary>
internal static unsafe class PackedProduct
{
    /// <summary>Floats of A and of B packed at once, at most: both pieces stay in a large third-level cache.</summary>
    private const int PieceFloats = 2 << 20;

    /// <summary>Columns of C per task, and the number of tasks below which they become narrower: enough for two unequal workers to share.</summary>
    private const int TaskColumns = 256;
    private const int FewestTasks = 8;

    /// <summary>
    /// Rows or columns packed per task, and steps of k where stored rows run across the panels: long enough parts of memory to be read ahead,
    /// few enough panels to be written at once. A multiple of all panel sizes, as the sizes of pieces are.
    /// </summary>
    private const int PackedExtent = 384;
    private const int PackedSteps = 64;

    /// <summary>Computes the product.</summary>
    public static void Run<TV, TEpilogue>(WorkerPool workers, in Operands operands, TEpilogue epilogue)
        where TV : struct, IFloatVector<TV>
        where TEpilogue : struct, IMatrixEpilogue
    {
        int steps = SlabSteps<TV>(operands.K);
        int extent = PieceFloats / steps / PackedExtent * PackedExtent;
        int rows = operands.TransposeA ? Math.Min(operands.M, extent) : operands.M;
        int columns = Math.Min(operands.N, extent);
        float* left = operands.TransposeA ? PackingBuffer.Left(Parts(rows, Packing.Height<TV>()) * Packing.LeftStride<TV>(steps)) : null;
        float* right = PackingBuffer.Right(Parts(columns, Packing.Width<TV>()) * Packing.RightStride<TV>(steps));
        for (int j = 0; j < operands.N; j += columns)
        {
            for (int p = 0; p < operands.K; p += steps)
            {
                for (int i = 0; i < operands.M; i += rows)
                {
                    var piece = new Piece
                    {
                        Operands = operands,
                        FirstRow = i,
                        Rows = Math.Min(rows, operands.M - i),
                        FirstColumn = j,
                        Columns = Math.Min(columns, operands.N - j),
                        FirstStep = p,
                        Steps = Math.Min(steps, operands.K - p),
                        Left = left,
                        Right = right,
                    };
                    Pack<TV>(workers, piece, packRight: i == 0);
                    Multiply<TV, TEpilogue>(workers, piece, epilogue);
                }
            }
        }
    }

    /// <summary>Steps of k per slab: a panel of B as large as the first-level cache (see README.md); slabs are even, so that none is thin.</summary>
    private static int SlabSteps<TV>(int k)
        where TV : struct, IFloatVector<TV>
    {
        int most = CacheSizes.Level1 / (Packing.Width<TV>() * sizeof(float)) / 16 * 16;
        int slabs = Parts(k, Math.Clamp(most, 128, 512));
        return Parts(Parts(k, slabs), 16) * 16;
    }

    private static int Parts(int count, int size) => (count + size - 1) / size;

    private static void Pack<TV>(WorkerPool workers, in Piece piece, bool packRight)
        where TV : struct, IFloatVector<TV>
    {
        int rightTasks = packRight ? PackingTasks(piece.Columns, piece.Steps, !piece.Operands.TransposeB) : 0;
        int leftTasks = piece.Operands.TransposeA ? PackingTasks(piece.Rows, piece.Steps, rowsRunAcross: true) : 0;
        workers.For(rightTasks + leftTasks, new PackTask<TV>(piece, rightTasks));
    }

    /// <summary>Tasks to pack an operand: parts of <see cref="PackedExtent"/>, cut along k too where the stored rows run across the panels.</summary>
    private static int PackingTasks(int extent, int steps, bool rowsRunAcross) => Parts(extent, PackedExtent) * (rowsRunAcross ? Parts(steps, PackedSteps) : 1);

    private static void Multiply<TV, TEpilogue>(WorkerPool workers, in Piece piece, TEpilogue epilogue)
        where TV : struct, IFloatVector<TV>
        where TEpilogue : struct, IMatrixEpilogue
    {
        // Rows per task: tiles whose part of A fills a third of the second-level cache, shared out evenly; columns likewise.
        int height = Packing.Height<TV>();
        int width = Packing.Width<TV>();
        int panels = Parts(piece.Rows, height);
        int most = Math.Max(1, CacheSizes.Level2 / 3 / (piece.Steps * height * sizeof(float)));
        int taskRows = Parts(panels, Parts(panels, most)) * height;
        int rowTasks = Parts(piece.Rows, taskRows);
        panels = Parts(piece.Columns, width);
        int columnTasks = Math.Min(panels, Math.Max(Parts(piece.Columns, TaskColumns), Parts(FewestTasks, rowTasks)));
        int taskColumns = Parts(panels, columnTasks) * width;
        columnTasks = Parts(piece.Columns, taskColumns);
        workers.For(rowTasks * columnTasks, new MultiplyTask<TV, TEpilogue>(piece, epilogue, taskRows, taskColumns, columnTasks));
    }

    /// <summary>The columns of one panel of B, times all rows of a task.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void MultiplyPanel<TV, TColumns>(int rows, int steps, float* a, nint rowStride, nint columnStride, nint panelStride, float* b, float* c, nint ldc, int lanes, float alpha, bool accumulate)
        where TV : struct, IFloatVector<TV>
        where TColumns : struct, ITileColumns
    {
        int height = Packing.Height<TV>();
        int width = Packing.Width<TV>();
        for (; rows >= height; rows -= height)
        {
            PrefetchTile(c, ldc, height, width);
            if (height == 12)
            {
                TileKernels.Rows12<TV, TColumns>(steps, a, rowStride, columnStride, b, width, c, ldc, lanes, alpha, accumulate);
            }
            else if (height == 6)
            {
                TileKernels.Rows6<TV, TColumns>(steps, a, rowStride, columnStride, b, width, c, ldc, lanes, alpha, accumulate);
            }
            else
            {
                TileKernels.Rows4<TV, TColumns>(steps, a, rowStride, columnStride, b, width, c, ldc, lanes, alpha, accumulate);
            }

            a += panelStride;
            c += height * ldc;
        }

        TileProduct.Columns<TV, TColumns>(rows, steps, a, rowStride, columnStride, b, width, c, ldc, lanes, alpha, accumulate);
    }

    /// <summary>C is read or written when the tile is done: fetched meanwhile.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void PrefetchTile(float* c, nint ldc, int height, int width)
    {
        if (Sse.IsSupported)
        {
            for (int i = 0; i < height; i++)
            {
                Sse.Prefetch0(c + (i * ldc));
                Sse.Prefetch0(c + (i * ldc) + width - 1);
            }
        }
    }

    /// <summary>The parts of the operands that are packed at one time, panel after panel.</summary>
    private readonly struct Piece
    {
        public required Operands Operands { get; init; }

        public required int FirstRow { get; init; }

        public required int Rows { get; init; }

        public required int FirstColumn { get; init; }

        public required int Columns { get; init; }

        public required int FirstStep { get; init; }

        public required int Steps { get; init; }

        public required float* Left { get; init; }

        public required float* Right { get; init; }
    }

    private readonly struct PackTask<TV>(Piece piece, int rightTasks) : IParallelBody
        where TV : struct, IFloatVector<TV>
    {
        public void Run(int index, int worker)
        {
            bool isRight = index < rightTasks;
            index -= isRight ? 0 : rightTasks;

            // Which rows or columns, and which steps of the slab.
            int extent = isRight ? piece.Columns : piece.Rows;
            int parts = Parts(extent, PackedExtent);
            int first = index % parts * PackedExtent;
            int count = Math.Min(PackedExtent, extent - first);
            int step = index / parts * PackedSteps;
            bool rowsRunAcross = !isRight || !piece.Operands.TransposeB;
            int steps = rowsRunAcross ? Math.Min(PackedSteps, piece.Steps - step) : piece.Steps;
            if (isRight)
            {
                nint stride = Packing.RightStride<TV>(piece.Steps);
                float* panel = piece.Right + (first / Packing.Width<TV>() * stride) + ((nint)step * Packing.Width<TV>());
                float* source = piece.Operands.Right(piece.FirstStep + step, piece.FirstColumn + first);
                Packing.Right<TV>(count, steps, source, piece.Operands.Ldb, piece.Operands.TransposeB, panel, stride);
            }
            else
            {
                nint stride = Packing.LeftStride<TV>(piece.Steps);
                float* panel = piece.Left + (first / Packing.Height<TV>() * stride) + ((nint)step * Packing.Height<TV>());
                float* source = piece.Operands.Left(piece.FirstRow + first, piece.FirstStep + step);
                Packing.Left<TV>(count, steps, source, piece.Operands.Lda, panel, stride);
            }
        }
    }

    private readonly struct MultiplyTask<TV, TEpilogue>(Piece piece, TEpilogue epilogue, int taskRows, int taskColumns, int columnTasks) : IParallelBody
        where TV : struct, IFloatVector<TV>
        where TEpilogue : struct, IMatrixEpilogue
    {
        public void Run(int index, int worker)
        {
            int row = index / columnTasks * taskRows;
            int column = index % columnTasks * taskColumns;
            int rows = Math.Min(taskRows, piece.Rows - row);
            int columns = Math.Min(taskColumns, piece.Columns - column);
            bool inPlace = !piece.Operands.TransposeA;
            float* a = inPlace
                ? piece.Operands.Left(piece.FirstRow + row, piece.FirstStep)
                : piece.Left + (row / Packing.Height<TV>() * Packing.LeftStride<TV>(piece.Steps));
            float* b = piece.Right + (column / Packing.Width<TV>() * Packing.RightStride<TV>(piece.Steps));
            float* c = piece.Operands.Result(piece.FirstRow + row, piece.FirstColumn + column);
            MultiplyBlock(rows, columns, a, inPlace, b, c);
            if (!TEpilogue.IsEmpty && piece.FirstStep + piece.Steps == piece.Operands.K)
            {
                epilogue.Apply<TV>(c, piece.Operands.Ldc, piece.FirstRow + row, piece.FirstColumn + column, rows, columns);
            }
        }

        [MethodImpl(MethodImplOptions.AggressiveOptimization)]
        private void MultiplyBlock(int rows, int columns, float* a, bool inPlace, float* b, float* c)
        {
            int steps = piece.Steps;
            int ldc = piece.Operands.Ldc;
            float alpha = piece.Operands.Alpha;
            bool accumulate = piece.Operands.Accumulate || piece.FirstStep > 0;
            nint rowStride = inPlace ? piece.Operands.Lda : 1;
            nint columnStride = inPlace ? 1 : Packing.Height<TV>();
            nint leftStride = inPlace ? Packing.Height<TV>() * rowStride : Packing.LeftStride<TV>(steps);
            nint rightStride = Packing.RightStride<TV>(steps);
            int width = Packing.Width<TV>();
            for (; columns >= width; columns -= width)
            {
                MultiplyPanel<TV, TileKernels.Pair>(rows, steps, a, rowStride, columnStride, leftStride, b, c, ldc, 0, alpha, accumulate);
                b += rightStride;
                c += width;
            }

            if (columns > TV.Count)
            {
                MultiplyPanel<TV, TileKernels.PartialPair>(rows, steps, a, rowStride, columnStride, leftStride, b, c, ldc, columns - TV.Count, alpha, accumulate);
            }
            else if (columns == TV.Count)
            {
                MultiplyPanel<TV, TileKernels.Single>(rows, steps, a, rowStride, columnStride, leftStride, b, c, ldc, 0, alpha, accumulate);
            }
            else if (columns > 0)
            {
                MultiplyPanel<TV, TileKernels.PartialSingle>(rows, steps, a, rowStride, columnStride, leftStride, b, c, ldc, columns, alpha, accumulate);
            }
        }
    }
}
