using ExactFlow.Tensors;
using ExactFlow.Tensors.MatrixProduct;
using ExactFlow.Training.Benchmarks;

namespace ExactFlow.Benchmarks;

/// <summary>Decoding: one to eight rows times a weight that no cache holds, as a share of the rate at which the machine reads memory.</summary>
public static unsafe class MatrixVectorSuite
{
    /// <summary>Runs the suite.</summary>
    public static void Run(BenchmarkRun run)
    {
        foreach (int threads in run.ThreadCounts)
        {
            using var device = new CpuDevice(threads);
            foreach ((int n, int k) in ((int, int)[])[(16384, 1024), (4096, 8192), (50304, 768)])
            {
                using Tensor weight = MatrixProductSuite.Random(device, [n, k], 1);
                foreach (int m in (int[])[1, 2, 4, 8])
                {
                    using Tensor a = MatrixProductSuite.Random(device, [m, k], 2);
                    using Tensor c = device.Persistent([m, n]);
                    run.Compare(
                        $"{threads}t {m} x {n} x {k}",
                        4e-9 * n * k,
                        "GB/s",
                        new Contender("read", () => MachineCeilings.Read(device.Workers, weight.Floats, weight.Count)),
                        new Contender("ExactFlow", () => MatrixMultiply.Run(device.Workers, m, n, k, a.Floats, k, false, weight.Floats, k, true, c.Floats, n, false)));
                }
            }
        }
    }
}
