using ExactFlow.Tensors;
using ExactFlow.Tensors.MatrixProduct;
using ExactFlow.Tensors.Randomness;
using ExactFlow.Training.Benchmarks;

namespace ExactFlow.Benchmarks;

/// <summary>Matrix products: squares, and the three products of a linear layer (forward NT, input gradient NN, weight gradient TN) in language models.</summary>
public static unsafe class MatrixProductSuite
{
    /// <summary>Runs the suite.</summary>
    public static void Run(BenchmarkRun run)
    {
        OpenBlas? peer = OpenBlas.Load();
        if (peer is null)
        {
            Console.WriteLine("  OpenBLAS is not installed: rates only.");
        }

        foreach (int threads in run.ThreadCounts)
        {
            using var device = new CpuDevice(threads);
            foreach ((int m, int n, int k, bool transposeA, bool transposeB) in Shapes())
            {
                string name = $"{threads}t {(transposeA ? "T" : "N")}{(transposeB ? "T" : "N")} {m} x {n} x {k}";
                if (!run.Wants(name))
                {
                    continue;
                }

                using Tensor a = Random(device, transposeA ? [k, m] : [m, k], 1);
                using Tensor b = Random(device, transposeB ? [n, k] : [k, n], 2);
                using Tensor c = device.Persistent([m, n]);
                using Tensor d = device.Persistent([m, n]);
                int lda = transposeA ? m : k;
                int ldb = transposeB ? k : n;
                var own = new Contender("ExactFlow", () => MatrixMultiply.Run(device.Workers, m, n, k, a.Floats, lda, transposeA, b.Floats, ldb, transposeB, c.Floats, n, false));
                peer?.SetThreads(threads);
                Contender[] contenders = peer is null
                    ? [own]
                    : [new Contender("OpenBLAS", () => peer.Multiply(m, n, k, a.Floats, lda, transposeA, b.Floats, ldb, transposeB, 0, d.Floats, n)), own];
                run.Compare(name, 2e-9 * m * n * k, "GFLOP/s", contenders);
            }
        }
    }

    /// <summary>A tensor of standard normal numbers.</summary>
    internal static Tensor Random(CpuDevice device, Shape shape, ulong stream)
    {
        Tensor tensor = device.Persistent(shape);
        new Philox(1, stream).FillUniform(tensor.Span<float>(), -1, 1);
        return tensor;
    }

    private static IEnumerable<(int M, int N, int K, bool TransposeA, bool TransposeB)> Shapes()
    {
        foreach (int size in (int[])[512, 1024, 2048])
        {
            yield return (size, size, size, false, false);
            yield return (size, size, size, false, true);
            yield return (size, size, size, true, false);
        }

        foreach ((int tokens, int inputs, int outputs) in ((int, int, int)[])
            [(4096, 256, 256), (4096, 256, 704), (4096, 704, 256), (2048, 512, 512), (2048, 512, 1408), (2048, 1408, 512), (2048, 1024, 1024), (2048, 1024, 2816), (2048, 256, 4096), (2048, 512, 8192)])
        {
            yield return (tokens, outputs, inputs, false, true);
            yield return (tokens, inputs, outputs, false, false);
            yield return (outputs, inputs, tokens, true, false);
        }
    }
}
