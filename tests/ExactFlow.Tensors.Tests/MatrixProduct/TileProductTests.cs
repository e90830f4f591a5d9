using ExactFlow.Tensors.MatrixProduct;
using ExactFlow.Tensors.Simd;

namespace ExactFlow.Tensors.Tests;

/// <summary>Tile products and transposition against plain loops, with NaN in everything that must not be read.</summary>
public sealed unsafe class TileProductTests
{
    private static readonly int[] Heights = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 20, 23, 24, 25, 64];
    private static readonly int[] Widths = [1, 3, 7, 8, 9, 15, 16, 17, 31, 32, 33, 48, 63, 64, 65, 100];

    [Fact]
    public void AgreesWithFloat64AtEveryHeightAndWidth()
    {
        int depth = 0;
        foreach (int m in Heights)
        {
            foreach (int n in Widths)
            {
                depth = ((depth + 5) % 37) + (m % 2);
                ExactFlow.Tensors.Simd.Simd.Run(new Check(m, n, depth, m % 3 == 0, n % 2 == 0));
                ExactFlow.Tensors.Simd.Simd.Run(new Check(m, n, depth, m % 3 != 0, n % 2 != 0));
            }
        }
    }

    [Theory]
    [InlineData(1, 1)]
    [InlineData(3, 50)]
    [InlineData(16, 16)]
    [InlineData(17, 31)]
    [InlineData(64, 128)]
    [InlineData(100, 7)]
    public void Transposes(int rows, int columns) => ExactFlow.Tensors.Simd.Simd.Run(new Transposition(rows, columns));

    private readonly struct Check(int m, int n, int k, bool transposeA, bool accumulate) : IVectorAction
    {
        public void Run<TV>()
            where TV : struct, IFloatVector<TV>
        {
            const float Alpha = 0.75f;
            int lda = (transposeA ? m : k) + 2;
            int ldb = n + 3;
            int ldc = n + 1;
            float[] a = MatrixMultiplyTests.Matrix(transposeA ? k : m, transposeA ? m : k, lda, 1);
            float[] b = MatrixMultiplyTests.Matrix(k, n, ldb, 2);
            float[] c = MatrixMultiplyTests.Matrix(m, accumulate ? n : 0, ldc, 3);
            float[] before = [.. c];
            fixed (float* pa = a, pb = b, pc = c)
            {
                TileProduct.Multiply<TV>(m, n, k, pa, lda, transposeA, pb, ldb, pc, ldc, accumulate, Alpha);
            }

            for (int i = 0; i < m; i++)
            {
                Assert.True(float.IsNaN(c[(i * ldc) + n]), "padding was written");
                for (int j = 0; j < n; j++)
                {
                    double sum = 0;
                    double size = 0;
                    for (int p = 0; p < k; p++)
                    {
                        double product = (double)a[transposeA ? (p * lda) + i : (i * lda) + p] * b[(p * ldb) + j];
                        sum += product;
                        size += Math.Abs(product);
                    }

                    double old = accumulate ? before[(i * ldc) + j] : 0;
                    double limit = (k + 2) * Math.Pow(2, -24) * (Math.Abs(old) + size);
                    Assert.True(Math.Abs(c[(i * ldc) + j] - (old + (Alpha * sum))) <= limit, $"[{m}, {n}, {k}] transposeA {transposeA} accumulate {accumulate}: C[{i}, {j}] is {c[(i * ldc) + j]}, expected {old + (Alpha * sum)}");
                }
            }
        }
    }

    private readonly struct Transposition(int rows, int columns) : IVectorAction
    {
        public void Run<TV>()
            where TV : struct, IFloatVector<TV>
        {
            float[] source = MatrixMultiplyTests.Matrix(rows, columns, columns + 3, 1);
            float[] target = MatrixMultiplyTests.Matrix(columns, 0, rows + 2, 2);
            fixed (float* from = source, to = target)
            {
                TileProduct.Transpose<TV>(rows, columns, from, columns + 3, to, rows + 2);
            }

            for (int j = 0; j < columns; j++)
            {
                for (int i = 0; i < rows + 2; i++)
                {
                    Assert.Equal(i < rows ? source[(i * (columns + 3)) + j] : float.NaN, target[(j * (rows + 2)) + i]);
                }
            }
        }
    }
}
