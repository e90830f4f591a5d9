using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics.X86;
using ExactFlow.Tensors.Parallel;
using ExactFlow.Tensors.Simd;

namespace ExactFlow.Tensors.MatrixProduct;

/// <summary>
/// The product of large matrices after Goto and van de Geijn ("Anatomy of High-Performance Matrix Multiplication", 2008) and BLIS.
/// k is cut into slabs; of each slab, B and then A are packed into panels by all workers, and the tiles of C are computed from the panels.
/// A task is a block of C: its panels of A stay in the second-level cache, and one panel of B after the other passes through the first.
/// </summary>
internal static unsafe class PackedProduct
{
    /// <summary>The most rows and columns packed at once: bounds the packing memory, and keeps both operands of a slab in a large third-level cache.</summary>
    private const int LargestRows = 4080;
    private const int LargestColumns = 4096;

    /// <summary>Columns of C per task.</summary>
    private const int TaskColumns = 512;

    /// <summary>Panels packed per task.</summary>
    private const int PanelsPerTask = 8;

    /// <summary>Computes the product.</summary>
    public static void Run<TV, TEpilogue>(WorkerPool workers, in Operands operands, TEpilogue epilogue)
        where TV : struct, IFloatVector<TV>
        where TEpilogue : struct, IMatrixEpilogue
    {
        int depth = SlabDepth<TV>(operands.K);
        int columns = Math.Min(operands.N, LargestColumns);
        int rows = Math.Min(operands.M, LargestRows);
        float* left = PackingBuffer.Left(Panels(rows, Packing.Height<TV>()) * Packing.LeftStride<TV>(depth));
        float* right = PackingBuffer.Right(Panels(columns, Packing.Width<TV>()) * Packing.RightStride<TV>(depth));
        for (int j = 0; j < operands.N; j += columns)
        {
            for (int p = 0; p < operands.K; p += depth)
            {
                for (int i = 0; i < operands.M; i += rows)
                {
                    var slab = new Slab
                    {
                        Operands = operands,
                        FirstRow = i,
                        Rows = Math.Min(rows, operands.M - i),
                        FirstColumn = j,
                        Columns = Math.Min(columns, operands.N - j),
                        FirstStep = p,
                        Depth = Math.Min(depth, operands.K - p),
                        Left = left,
                        Right = right,
                    };
                    Pack<TV>(workers, slab, packRight: i == 0);
                    Multiply<TV, TEpilogue>(workers, slab, epilogue);
                }
            }
        }
    }

    /// <summary>Steps of k per slab: a panel of B fills two thirds of the first-level cache; slabs are even, so that none is thin.</summary>
    private static int SlabDepth<TV>(int k)
        where TV : struct, IFloatVector<TV>
    {
        int most = CacheSizes.Level1 * 2 / 3 / (Packing.Width<TV>() * sizeof(float)) / 16 * 16;
        int slabs = Panels(k, Math.Clamp(most, 128, 512));
        return Panels(Panels(k, slabs), 16) * 16;
    }

    private static int Panels(int count, int size) => (count + size - 1) / size;

    private static void Pack<TV>(WorkerPool workers, in Slab slab, bool packRight)
        where TV : struct, IFloatVector<TV>
    {
        int rightTasks = packRight ? Panels(slab.Columns, Packing.Width<TV>() * PanelsPerTask) : 0;
        int leftTasks = Panels(slab.Rows, Packing.Height<TV>() * PanelsPerTask);
        workers.For(rightTasks + leftTasks, new PackTask<TV>(slab, rightTasks));
    }

    private static void Multiply<TV, TEpilogue>(WorkerPool workers, in Slab slab, TEpilogue epilogue)
        where TV : struct, IFloatVector<TV>
        where TEpilogue : struct, IMatrixEpilogue
    {
        // Rows per task: panels of A that fill a third of the second-level cache, shared out evenly; columns likewise.
        int height = Packing.Height<TV>();
        int width = Packing.Width<TV>();
        int most = Math.Max(1, CacheSizes.Level2 / 3 / (slab.Depth * height * sizeof(float)));
        int panels = Panels(slab.Rows, height);
        int taskRows = Panels(panels, Panels(panels, Math.Min(most, 12))) * height;
        panels = Panels(slab.Columns, width);
        int taskColumns = Panels(panels, Panels(panels, TaskColumns / width)) * width;
        int rowTasks = Panels(slab.Rows, taskRows);
        int columnTasks = Panels(slab.Columns, taskColumns);
        workers.For(rowTasks * columnTasks, new MultiplyTask<TV, TEpilogue>(slab, epilogue, taskRows, taskColumns, columnTasks));
    }

    /// <summary>The columns of one panel of B, times all rows of a task.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void MultiplyPanel<TV, TColumns>(int rows, int depth, float* a, float* b, float* c, nint ldc, int lanes, float alpha, bool accumulate)
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
                TileKernels.Rows12<TV, TColumns>(depth, a, 1, height, b, width, c, ldc, lanes, alpha, accumulate);
            }
            else if (height == 6)
            {
                TileKernels.Rows6<TV, TColumns>(depth, a, 1, height, b, width, c, ldc, lanes, alpha, accumulate);
            }
            else
            {
                TileKernels.Rows4<TV, TColumns>(depth, a, 1, height, b, width, c, ldc, lanes, alpha, accumulate);
            }

            a += Packing.LeftStride<TV>(depth);
            c += height * ldc;
        }

        TileProduct.Columns<TV, TColumns>(rows, depth, a, 1, height, b, width, c, ldc, lanes, alpha, accumulate);
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

    /// <summary>A slab of k and the parts of the operands packed for it.</summary>
    private readonly struct Slab
    {
        public required Operands Operands { get; init; }

        public required int FirstRow { get; init; }

        public required int Rows { get; init; }

        public required int FirstColumn { get; init; }

        public required int Columns { get; init; }

        public required int FirstStep { get; init; }

        public required int Depth { get; init; }

        public required float* Left { get; init; }

        public required float* Right { get; init; }
    }

    private readonly struct PackTask<TV>(Slab slab, int rightTasks) : IParallelBody
        where TV : struct, IFloatVector<TV>
    {
        public void Run(int index, int worker)
        {
            Operands operands = slab.Operands;
            if (index < rightTasks)
            {
                int columns = Packing.Width<TV>() * PanelsPerTask;
                int first = index * columns;
                float* panel = slab.Right + (index * PanelsPerTask * Packing.RightStride<TV>(slab.Depth));
                float* source = operands.Right(slab.FirstStep, slab.FirstColumn + first);
                Packing.Right<TV>(Math.Min(columns, slab.Columns - first), slab.Depth, source, operands.Ldb, operands.TransposeB, panel);
            }
            else
            {
                index -= rightTasks;
                int rows = Packing.Height<TV>() * PanelsPerTask;
                int first = index * rows;
                float* panel = slab.Left + (index * PanelsPerTask * Packing.LeftStride<TV>(slab.Depth));
                float* source = operands.Left(slab.FirstRow + first, slab.FirstStep);
                Packing.Left<TV>(Math.Min(rows, slab.Rows - first), slab.Depth, source, operands.Lda, operands.TransposeA, panel);
            }
        }
    }

    private readonly struct MultiplyTask<TV, TEpilogue>(Slab slab, TEpilogue epilogue, int taskRows, int taskColumns, int columnTasks) : IParallelBody
        where TV : struct, IFloatVector<TV>
        where TEpilogue : struct, IMatrixEpilogue
    {
        [MethodImpl(MethodImplOptions.AggressiveOptimization)]
        public void Run(int index, int worker)
        {
            Operands operands = slab.Operands;
            int row = index / columnTasks * taskRows;
            int column = index % columnTasks * taskColumns;
            int rows = Math.Min(taskRows, slab.Rows - row);
            int end = Math.Min(column + taskColumns, slab.Columns);
            bool accumulate = operands.Accumulate || slab.FirstStep > 0;
            bool isLast = slab.FirstStep + slab.Depth == operands.K;
            int width = Packing.Width<TV>();
            float* a = slab.Left + (row / Packing.Height<TV>() * Packing.LeftStride<TV>(slab.Depth));
            float* b = slab.Right + (column / width * Packing.RightStride<TV>(slab.Depth));
            for (; column < end; column += width)
            {
                int columns = Math.Min(width, end - column);
                float* c = operands.Result(slab.FirstRow + row, slab.FirstColumn + column);
                if (columns == width)
                {
                    MultiplyPanel<TV, TileKernels.Pair>(rows, slab.Depth, a, b, c, operands.Ldc, 0, operands.Alpha, accumulate);
                }
                else if (columns > TV.Count)
                {
                    MultiplyPanel<TV, TileKernels.PartialPair>(rows, slab.Depth, a, b, c, operands.Ldc, columns - TV.Count, operands.Alpha, accumulate);
                }
                else if (columns == TV.Count)
                {
                    MultiplyPanel<TV, TileKernels.Single>(rows, slab.Depth, a, b, c, operands.Ldc, 0, operands.Alpha, accumulate);
                }
                else
                {
                    MultiplyPanel<TV, TileKernels.PartialSingle>(rows, slab.Depth, a, b, c, operands.Ldc, columns, operands.Alpha, accumulate);
                }

                if (!TEpilogue.IsEmpty && isLast)
                {
                    epilogue.Apply<TV>(c, operands.Ldc, slab.FirstRow + row, slab.FirstColumn + column, rows, columns);
                }

                b += Packing.RightStride<TV>(slab.Depth);
            }
        }
    }
}
