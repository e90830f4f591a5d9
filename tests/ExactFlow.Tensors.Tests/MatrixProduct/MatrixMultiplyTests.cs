using ExactFlow.Tensors.MatrixProduct;
using ExactFlow.Tensors.Parallel;
using ExactFlow.Tensors.Randomness;

namespace ExactFlow.Tensors.Tests;

/// <summary>The matrix product against plain float64 loops, with NaN in everything that must not be read.</summary>
public sealed unsafe class MatrixMultiplyTests
{
    public static TheoryData<int, int, int> Sizes
    {
        get
        {
            var data = new TheoryData<int, int, int>();
            int[] odd = [1, 2, 3, 7, 12, 13, 16, 31, 63, 64, 65, 100];
            for (int i = 0; i < odd.Length; i++)
            {
                data.Add(odd[i], odd[(i * 5 + 3) % odd.Length], odd[(i * 7 + 1) % odd.Length]);
                data.Add(odd[(i * 7 + 4) % odd.Length], odd[i], odd[(i * 5 + 2) % odd.Length]);
                data.Add(odd[i], odd[i], odd[i]);
            }

            data.Add(300, 257, 129);
            data.Add(129, 300, 700);
            data.Add(1, 1000, 513);
            data.Add(5, 700, 1030);
            data.Add(1000, 3, 5);
            data.Add(4, 4, 0);
            data.Add(0, 4, 4);
            return data;
        }
    }

    [Theory]
    [MemberData(nameof(Sizes))]
    public void AgreesWithFloat64(int m, int n, int k)
    {
        using var workers = new WorkerPool(2);
        foreach (bool transposeA in (bool[])[false, true])
        {
            foreach (bool transposeB in (bool[])[false, true])
            {
                foreach (bool accumulate in (bool[])[false, true])
                {
                    Check(workers, m, n, k, transposeA, transposeB, accumulate, accumulate ? -0.5f : 1);
                }
            }
        }
    }

    internal static void Check(WorkerPool workers, int m, int n, int k, bool transposeA, bool transposeB, bool accumulate, float alpha)
    {
        int lda = (transposeA ? m : k) + 3;
        int ldb = (transposeB ? k : n) + 5;
        int ldc = n + 1;
        float[] a = Matrix(transposeA ? k : m, transposeA ? m : k, lda, 1);
        float[] b = Matrix(transposeB ? n : k, transposeB ? k : n, ldb, 2);
        float[] c = Matrix(m, accumulate ? n : 0, ldc, 3);
        float[] before = [.. c];
        fixed (float* pa = a, pb = b, pc = c)
        {
            MatrixMultiply.Run(workers, m, n, k, pa, lda, transposeA, pb, ldb, transposeB, pc, ldc, accumulate, alpha);
        }

        for (int i = 0; i < m; i++)
        {
            for (int j = 0; j < n; j++)
            {
                double sum = 0;
                double size = 0;
                for (int p = 0; p < k; p++)
                {
                    double product = (double)a[transposeA ? (p * lda) + i : (i * lda) + p] * b[transposeB ? (j * ldb) + p : (p * ldb) + j];
                    sum += product;
                    size += Math.Abs(product);
                }

                double old = accumulate ? before[(i * ldc) + j] : 0;
                double expected = old + (alpha * sum);

                // Any order of summation errs by at most k + 2 roundings of the sum of absolute values.
                double limit = (k + 2) * Math.Pow(2, -24) * (Math.Abs(old) + (Math.Abs(alpha) * size));
                double error = Math.Abs(c[(i * ldc) + j] - expected);
                Assert.True(error <= limit, $"[{m}, {n}, {k}] transposeA {transposeA} transposeB {transposeB} accumulate {accumulate}: C[{i}, {j}] is {c[(i * ldc) + j]}, expected {expected}");
            }

            for (int j = n; j < ldc; j++)
            {
                Assert.True(float.IsNaN(c[(i * ldc) + j]), $"padding of row {i} was written");
            }
        }
    }

    /// <summary>Normal numbers in the first <paramref name="columns"/> of each row, NaN in the rest.</summary>
    private static float[] Matrix(int rows, int columns, int stride, ulong stream)
    {
        var philox = new Philox(7, stream);
        var values = new float[rows * stride];
        for (int i = 0; i < values.Length; i++)
        {
            values[i] = i % stride < columns ? (float)philox.Normal((ulong)i) : float.NaN;
        }

        return values;
    }
}
