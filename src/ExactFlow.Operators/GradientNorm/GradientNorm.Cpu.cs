using System.Numerics;
using System.Runtime.CompilerServices;
using ExactFlow.Tensors;
using ExactFlow.Tensors.Memory;
using ExactFlow.Tensors.Parallel;

namespace ExactFlow.Operators;

public static unsafe partial class GradientNorm
{
    private static double Forward(CpuDevice device, IReadOnlyList<Parameter> parameters)
    {
        int count = ParameterChunk.Count(parameters);
        using var chunkMemory = new Scratch(device, (long)count * sizeof(ParameterChunk));
        using var partialMemory = new Scratch(device, (long)count * sizeof(double));
        var chunks = (ParameterChunk*)chunkMemory.Address;
        var partials = (double*)partialMemory.Address;
        ParameterChunk.Fill(parameters, chunks);
        device.Workers.For(count, new SquaredSums { Chunks = chunks, Partials = partials });
        double sum = 0;
        for (int i = 0; i < count; i++)
        {
            sum += partials[i];
        }

        return Math.Sqrt(sum);
    }

    private struct SquaredSums : IParallelBody
    {
        public ParameterChunk* Chunks;
        public double* Partials;

        public readonly void Run(int index, int worker) => Partials[index] = SquaredSum(Chunks[index].Gradient, Chunks[index].Length);

        /// <summary>In float64, where no square of a float32 overflows or vanishes. Four sums in flight hide the latency of the additions.</summary>
        [MethodImpl(MethodImplOptions.AggressiveOptimization | MethodImplOptions.NoInlining)]
        private static double SquaredSum(float* values, int count)
        {
            Vector<double> sum0 = Vector<double>.Zero;
            Vector<double> sum1 = Vector<double>.Zero;
            Vector<double> sum2 = Vector<double>.Zero;
            Vector<double> sum3 = Vector<double>.Zero;
            int i = 0;
            for (; i + (2 * Vector<float>.Count) <= count; i += 2 * Vector<float>.Count)
            {
                Vector.Widen(Vector.Load(values + i), out Vector<double> value0, out Vector<double> value1);
                Vector.Widen(Vector.Load(values + i + Vector<float>.Count), out Vector<double> value2, out Vector<double> value3);
                sum0 += value0 * value0;
                sum1 += value1 * value1;
                sum2 += value2 * value2;
                sum3 += value3 * value3;
            }

            double sum = Vector.Sum(sum0 + sum1 + (sum2 + sum3));
            for (; i < count; i++)
            {
                sum += (double)values[i] * values[i];
            }

            return sum;
        }
    }
}
