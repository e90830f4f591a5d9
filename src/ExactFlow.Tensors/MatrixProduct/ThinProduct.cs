using ExactFlow.Tensors.Parallel;
using ExactFlow.Tensors.Simd;

namespace ExactFlow.Tensors.MatrixProduct;

/// <summary>
/// Products that packing would cost more than it saves: small ones, and those with few rows or few columns, which read the large operand only once
/// or twice. B is transposed first where its rows run along k; A is read where it lies.
/// </summary>
internal static unsafe class ThinProduct
{
    /// <summary>Multiply-adds of a product that runs on the calling thread alone: about three microseconds, as long as waking a worker.</summary>
    private const long Small = 1 << 16;

    /// <summary>Multiply-adds up to which nothing is packed.</summary>
    private const long Unpacked = 1 << 20;

    /// <summary>Whether the product is thin or small enough.</summary>
    public static bool Suits<TV>(in Operands operands)
        where TV : struct, IFloatVector<TV>
        => (long)operands.M * operands.N * operands.K <= Unpacked
            || (operands.N <= Packing.Width<TV>() && !operands.TransposeA)
            || (operands.M <= 2 * Packing.Height<TV>() && !operands.TransposeB)
            || operands.K <= 16;

    /// <summary>Computes the product.</summary>
    public static void Run<TV, TEpilogue>(WorkerPool workers, in Operands operands, TEpilogue epilogue)
        where TV : struct, IFloatVector<TV>
        where TEpilogue : struct, IMatrixEpilogue
    {
        float* b = operands.B;
        nint ldb = operands.Ldb;
        if (operands.TransposeB)
        {
            ldb = (operands.N + TV.Count - 1) / TV.Count * TV.Count;
            b = PackingBuffer.Right(ldb * operands.K);
            TileProduct.Transpose<TV>(operands.N, operands.K, operands.B, checked((int)operands.Ldb), b, checked((int)ldb));
        }

        // Cut along the longer side, in whole tiles; the bounds depend on the shape only.
        bool byRows = operands.M > operands.N;
        int unit = byRows ? 2 * Packing.Height<TV>() : Packing.Width<TV>();
        int length = byRows ? operands.M : operands.N;
        long work = (long)operands.M * operands.N * operands.K;
        int tasks = work <= Small ? 1 : (int)Math.Min((length + unit - 1) / unit, work / Small + 1);
        int perTask = (((length + tasks - 1) / tasks) + unit - 1) / unit * unit;
        tasks = (length + perTask - 1) / perTask;
        workers.For(tasks, new Task<TV, TEpilogue>(operands, epilogue, b, (int)ldb, byRows, perTask));
    }

    private readonly struct Task<TV, TEpilogue>(Operands operands, TEpilogue epilogue, float* b, int ldb, bool byRows, int perTask) : IParallelBody
        where TV : struct, IFloatVector<TV>
        where TEpilogue : struct, IMatrixEpilogue
    {
        public void Run(int index, int worker)
        {
            int first = index * perTask;
            int row = byRows ? first : 0;
            int column = byRows ? 0 : first;
            int rows = byRows ? Math.Min(perTask, operands.M - first) : operands.M;
            int columns = byRows ? operands.N : Math.Min(perTask, operands.N - first);
            float* c = operands.Result(row, column);
            TileProduct.Multiply<TV>(
                rows, columns, operands.K, operands.Left(row, 0), (int)operands.Lda, operands.TransposeA, b + column, ldb, c, operands.Ldc, operands.Accumulate, operands.Alpha);
            if (!TEpilogue.IsEmpty)
            {
                epilogue.Apply<TV>(c, operands.Ldc, row, column, rows, columns);
            }
        }
    }
}
