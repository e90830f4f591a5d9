using System.Numerics;
using ExactFlow.Tensors.Parallel;

namespace ExactFlow.Operators;

/// <summary>C[m,n] (+)= alpha op(A) op(B), row-major, one output row at a time.</summary>
internal static unsafe class MatrixMultiply
{
    /// <summary>Runs the product over the workers.</summary>
    public static void Run(WorkerPool workers, int m, int n, int k, float* a, int lda, bool transposeA, float* b, int ldb, bool transposeB, float* c, int ldc, bool accumulate, float alpha = 1)
        => workers.For(m, new Rows { N = n, K = k, A = a, Lda = lda, TransposeA = transposeA, B = b, Ldb = ldb, TransposeB = transposeB, C = c, Ldc = ldc, Accumulate = accumulate, Alpha = alpha });

    private struct Rows : IParallelBody
    {
        public int N;
        public int K;
        public float* A;
        public int Lda;
        public bool TransposeA;
        public float* B;
        public int Ldb;
        public bool TransposeB;
        public float* C;
        public int Ldc;
        public bool Accumulate;
        public float Alpha;

        public readonly void Run(int index, int worker)
        {
            float* row = C + ((long)index * Ldc);
            if (!Accumulate)
            {
                new Span<float>(row, N).Clear();
            }

            if (TransposeB)
            {
                for (int j = 0; j < N; j++)
                {
                    row[j] += Alpha * Dot(index, B + ((long)j * Ldb));
                }

                return;
            }

            for (int p = 0; p < K; p++)
            {
                AddScaled(row, Alpha * Left(index, p), B + ((long)p * Ldb));
            }
        }

        private readonly float Left(int i, int p) => TransposeA ? A[((long)p * Lda) + i] : A[((long)i * Lda) + p];

        private readonly float Dot(int i, float* right)
        {
            float sum = 0;
            int p = 0;
            if (!TransposeA)
            {
                float* left = A + ((long)i * Lda);
                Vector<float> sums = Vector<float>.Zero;
                for (; p + Vector<float>.Count <= K; p += Vector<float>.Count)
                {
                    sums += Vector.Load(left + p) * Vector.Load(right + p);
                }

                sum = Vector.Sum(sums);
            }

            for (; p < K; p++)
            {
                sum += Left(i, p) * right[p];
            }

            return sum;
        }

        private readonly void AddScaled(float* row, float factor, float* right)
        {
            int j = 0;
            for (; j + Vector<float>.Count <= N; j += Vector<float>.Count)
            {
                Vector.Store(Vector.Load(row + j) + (factor * Vector.Load(right + j)), row + j);
            }

            for (; j < N; j++)
            {
                row[j] += factor * right[j];
            }
        }
    }
}
