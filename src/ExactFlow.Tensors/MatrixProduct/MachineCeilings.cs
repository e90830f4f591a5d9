using System.Diagnostics;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using ExactFlow.Tensors.Parallel;
using ExactFlow.Tensors.Simd;

namespace ExactFlow.Tensors.MatrixProduct;

/// <summary>
/// What this machine was measured to do, now, at a number of threads: what shares are shares of. Each figure is the median of several runs after a warm-up.
/// </summary>
/// <param name="Threads">Threads that took part.</param>
/// <param name="MatrixProductGigaflops">Our own float32 matrix product of 1024 x 1024 matrices, in 10^9 operations per second.</param>
/// <param name="CopyGigabytesPerSecond">Copying memory that no cache holds, bytes read plus bytes written, in 10^9 bytes per second.</param>
/// <param name="ReadGigabytesPerSecond">Reading memory that no cache holds, in 10^9 bytes per second.</param>
public sealed unsafe record MachineCeilings(int Threads, double MatrixProductGigaflops, double CopyGigabytesPerSecond, double ReadGigabytesPerSecond)
{
    private const int MatrixSize = 1024;
    private const double SecondsPerFigure = 0.12;
    private const int FewestRuns = 5;

    /// <summary>Floats per task of <see cref="Read"/> and of the copy.</summary>
    private const int TaskFloats = 256 << 10;

    /// <summary>Measures all three; takes about half a second and, meanwhile, four times the last-level cache of memory.</summary>
    public static MachineCeilings Measure(WorkerPool workers)
    {
        ArgumentNullException.ThrowIfNull(workers);
        long half = Math.Max(2L * CacheSizes.Level3, 32 << 20) / sizeof(float);
        var memory = (float*)NativeMemory.AlignedAlloc((nuint)(2 * half * sizeof(float)), 4096);
        try
        {
            workers.For(Tasks(2 * half), new Clear(memory, 2 * half));
            float* a = memory;
            float* b = a + (MatrixSize * MatrixSize);
            float* c = b + (MatrixSize * MatrixSize);
            double product = Median(() => MatrixMultiply.Run(workers, MatrixSize, MatrixSize, MatrixSize, a, MatrixSize, false, b, MatrixSize, false, c, MatrixSize, false));
            double copy = Median(() => workers.For(Tasks(half), new Copy(memory, memory + half, half)));
            double read = Median(() => Read(workers, memory, 2 * half));
            return new MachineCeilings(
                workers.WorkerCount,
                2e-9 * MatrixSize * MatrixSize * MatrixSize / product,
                2e-9 * half * sizeof(float) / copy,
                2e-9 * half * sizeof(float) / read);
        }
        finally
        {
            NativeMemory.AlignedFree(memory);
        }
    }

    /// <summary>Reads memory as fast as it comes and returns the largest number found.</summary>
    /// <param name="workers">The threads to share the work.</param>
    /// <param name="source">What to read.</param>
    /// <param name="count">Floats.</param>
    public static float Read(WorkerPool workers, float* source, long count)
    {
        ArgumentNullException.ThrowIfNull(workers);
        float* largest = stackalloc float[workers.WorkerCount];
        new Span<float>(largest, workers.WorkerCount).Fill(float.NegativeInfinity);
        Simd.Simd.For(workers, Tasks(count), new FindLargest(source, count, largest));
        float result = largest[0];
        for (int i = 1; i < workers.WorkerCount; i++)
        {
            result = MathF.Max(result, largest[i]);
        }

        return result;
    }

    private static int Tasks(long count) => checked((int)((count + TaskFloats - 1) / TaskFloats));

    private static double Median(Action work)
    {
        work();
        work();
        var seconds = new List<double>();
        long start = Stopwatch.GetTimestamp();
        while (seconds.Count < FewestRuns || Stopwatch.GetElapsedTime(start).TotalSeconds < SecondsPerFigure)
        {
            long before = Stopwatch.GetTimestamp();
            work();
            seconds.Add(Stopwatch.GetElapsedTime(before).TotalSeconds);
        }

        seconds.Sort();
        return seconds[seconds.Count / 2];
    }

    private readonly struct Clear(float* target, long count) : IParallelBody
    {
        public void Run(int index, int worker)
        {
            long first = (long)index * TaskFloats;
            new Span<float>(target + first, (int)Math.Min(TaskFloats, count - first)).Clear();
        }
    }

    private readonly struct Copy(float* source, float* target, long count) : IParallelBody
    {
        public void Run(int index, int worker)
        {
            long first = (long)index * TaskFloats;
            long bytes = Math.Min(TaskFloats, count - first) * sizeof(float);
            Buffer.MemoryCopy(source + first, target + first, bytes, bytes);
        }
    }

    private readonly struct FindLargest(float* source, long count, float* largest) : IVectorBody
    {
        [MethodImpl(MethodImplOptions.AggressiveOptimization)]
        public void Run<TV>(int index, int worker)
            where TV : struct, IFloatVector<TV>
        {
            long first = (long)index * TaskFloats;
            float* from = source + first;
            int length = (int)Math.Min(TaskFloats, count - first);
            TV a = TV.Broadcast(float.NegativeInfinity);
            TV b = a, c = a, d = a;
            int i = 0;
            for (; i + (4 * TV.Count) <= length; i += 4 * TV.Count)
            {
                a = TV.Max(a, TV.Load(from + i));
                b = TV.Max(b, TV.Load(from + i + TV.Count));
                c = TV.Max(c, TV.Load(from + i + (2 * TV.Count)));
                d = TV.Max(d, TV.Load(from + i + (3 * TV.Count)));
            }

            float result = TV.Max(TV.Max(a, b), TV.Max(c, d)).Largest();
            for (; i < length; i++)
            {
                result = MathF.Max(result, from[i]);
            }

            largest[worker] = MathF.Max(largest[worker], result);
        }
    }
}
