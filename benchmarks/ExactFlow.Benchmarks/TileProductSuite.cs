using ExactFlow.Tensors;
using ExactFlow.Tensors.MatrixProduct;
using ExactFlow.Tensors.Simd;
using ExactFlow.Training.Benchmarks;

namespace ExactFlow.Benchmarks;

/// <summary>Products of tiles that stay in the caches, as the delta rule multiplies them, on one thread; the large packed product is the yardstick.</summary>
public static unsafe class TileProductSuite
{
    /// <summary>Runs the suite.</summary>
    public static void Run(BenchmarkRun run)
    {
        using var device = new CpuDevice(1);
        const int Large = 768;
        using Tensor a = MatrixProductSuite.Random(device, [Large, Large], 1);
        using Tensor b = MatrixProductSuite.Random(device, [Large, Large], 2);
        using Tensor c = device.Persistent([Large, Large]);
        foreach ((int m, int n, int k, bool transposeA) in ((int, int, int, bool)[])
            [(16, 64, 64, false), (64, 64, 16, false), (64, 64, 64, false), (64, 64, 64, true), (64, 128, 64, false), (64, 64, 128, false), (128, 128, 64, true), (64, 128, 128, false), (128, 128, 128, false), (63, 65, 63, false)])
        {
            // Work is counted in tile products; the yardstick does the same number of operations as part of a large product.
            double operations = 2.0 * m * n * k;
            string name = $"{(transposeA ? "T" : "N")}N {m} x {n} x {k}";
            double share = 2.0 * Large * Large * Large / operations;
            run.Compare(
                name,
                operations * Math.Round(share) * 1e-9,
                "GFLOP/s",
                new Contender("packed 768", () => MatrixMultiply.Run(device.Workers, Large, Large, Large, a.Floats, Large, false, b.Floats, Large, false, c.Floats, Large, false)),
                new Contender("tile", () => Simd.Run(new Tiles(m, n, k, a.Floats, transposeA ? m : k, transposeA, b.Floats, n, c.Floats, (int)Math.Round(share)))));
        }

        foreach ((int rows, int columns) in ((int, int)[])[(64, 64), (64, 128), (128, 128)])
        {
            run.Compare($"transpose {rows} x {columns}", 8e-9 * rows * columns, "GB/s", new Contender("transpose", () => Simd.Run(new Transposition(rows, columns, a.Floats, c.Floats))));
        }
    }

    private readonly struct Tiles(int m, int n, int k, float* a, int lda, bool transposeA, float* b, int ldb, float* c, int repeats) : IVectorAction
    {
        public void Run<TV>()
            where TV : struct, IFloatVector<TV>
        {
            for (int i = 0; i < repeats; i++)
            {
                TileProduct.Multiply<TV>(m, n, k, a, lda, transposeA, b, ldb, c, n, false);
            }
        }
    }

    private readonly struct Transposition(int rows, int columns, float* source, float* destination) : IVectorAction
    {
        public void Run<TV>()
            where TV : struct, IFloatVector<TV>
            => TileProduct.Transpose<TV>(rows, columns, source, columns, destination, rows);
    }
}
