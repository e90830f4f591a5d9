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

            data.Add(150, 100, 129);
            data.Add(50, 130, 700);
            data.Add(13, 1030, 100);
            for (int rows = 1; rows <= 9; rows++)
            {
                data.Add(rows, 41 + rows, 200 + (3 * rows));
            }

            data.Add(1, 1000, 113);
            data.Add(5, 70, 1030);
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

    [Fact]
    public void GivesTheSameBitsForAnyNumberOfWorkers()
    {
        foreach ((int m, int n, int k, bool transposeA, bool transposeB) in ((int, int, int, bool, bool)[])
            [(4100, 70, 33, false, true), (257, 1100, 600, false, false), (130, 650, 1300, true, false), (3, 900, 800, false, true), (700, 20, 300, false, true), (9, 999, 400, false, false)])
        {
            int lda = transposeA ? m : k;
            int ldb = transposeB ? k : n;
            float[] a = Matrix(transposeA ? k : m, lda, lda, 1);
            float[] b = Matrix(transposeB ? n : k, ldb, ldb, 2);
            float[]? first = null;
            foreach (int workerCount in (int[])[1, 2, 5])
            {
                using var workers = new WorkerPool(workerCount);
                var c = new float[m * n];
                fixed (float* pa = a, pb = b, pc = c)
                {
                    MatrixMultiply.Run(workers, m, n, k, pa, lda, transposeA, pb, ldb, transposeB, pc, n, false);
                }

                first ??= c;
                Assert.True(first.AsSpan().SequenceEqual(c), $"[{m}, {n}, {k}] differs between 1 and {workerCount} workers");
            }
        }
    }

    [Theory]
    [InlineData(3, 50, 64, true)]
    [InlineData(40, 31, 20, false)]
    [InlineData(200, 133, 700, true)]
    [InlineData(200, 133, 700, false)]
    [InlineData(5, 9, 0, false)]
    public void AppliesTheEpilogueOnceToEveryElement(int m, int n, int k, bool transposeB)
    {
        using var workers = new WorkerPool(2);
        int ldb = transposeB ? k : n;
        float[] a = Matrix(m, k, k, 1);
        float[] b = Matrix(transposeB ? n : k, ldb, ldb, 2);
        float[] bias = Matrix(1, n, n, 3);
        var plain = new float[m * n];
        var biased = new float[m * n];
        fixed (float* pa = a, pb = b, pBias = bias, pPlain = plain, pBiased = biased)
        {
            MatrixMultiply.Run(workers, m, n, k, pa, k, false, pb, ldb, transposeB, pPlain, n, false);
            MatrixMultiply.Run(workers, m, n, k, pa, k, false, pb, ldb, transposeB, pBiased, n, false, new AddBias(pBias));
        }

        for (int i = 0; i < plain.Length; i++)
        {
            Assert.Equal(plain[i] + bias[i % n], biased[i]);
        }
    }

    [Fact]
    public void AllocatesNothingInSteadyState()
    {
        using var workers = new WorkerPool(2);
        float[] a = Matrix(300, 300, 300, 1);
        float[] b = Matrix(300, 300, 300, 2);
        var c = new float[300 * 300];
        fixed (float* pa = a, pb = b, pc = c)
        {
            long before = 0;
            for (int i = 0; i < 3; i++)
            {
                before = GC.GetAllocatedBytesForCurrentThread();
                MatrixMultiply.Run(workers, 300, 300, 300, pa, 300, false, pb, 300, true, pc, 300, false);
                MatrixMultiply.Run(workers, 2, 300, 300, pa, 300, false, pb, 300, true, pc, 300, false);
                MatrixMultiply.Run(workers, 20, 20, 300, pa, 300, false, pb, 300, true, pc, 300, false);
            }

            Assert.Equal(before, GC.GetAllocatedBytesForCurrentThread());
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
    internal static float[] Matrix(int rows, int columns, int stride, ulong stream)
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
