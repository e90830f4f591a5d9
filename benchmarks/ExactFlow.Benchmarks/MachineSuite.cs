using System.Diagnostics;
using ExactFlow.Tensors.MatrixProduct;
using ExactFlow.Tensors.Parallel;
using ExactFlow.Training.Benchmarks;

namespace ExactFlow.Benchmarks;

/// <summary>What the machine can do, as doctor and the step line measure it.</summary>
public static class MachineSuite
{
    /// <summary>Runs the suite.</summary>
    public static void Run(BenchmarkRun run)
    {
        foreach (int threads in run.ThreadCounts)
        {
            using var workers = new WorkerPool(threads);
            long start = Stopwatch.GetTimestamp();
            MachineCeilings ceilings = MachineCeilings.Measure(workers);
            double seconds = Stopwatch.GetElapsedTime(start).TotalSeconds;
            run.Report($"{threads}t matrix product", "ExactFlow", ceilings.MatrixProductGigaflops, "GFLOP/s");
            run.Report($"{threads}t copy", "ExactFlow", ceilings.CopyGigabytesPerSecond, "GB/s");
            run.Report($"{threads}t read", "ExactFlow", ceilings.ReadGigabytesPerSecond, "GB/s");
            run.Report($"{threads}t time to measure", "ExactFlow", seconds, "s");
        }
    }
}
