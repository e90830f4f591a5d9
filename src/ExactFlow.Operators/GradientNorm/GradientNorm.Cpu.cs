using ExactFlow.Tensors;
using ExactFlow.Tensors.Memory;
using ExactFlow.Tensors.Parallel;

namespace ExactFlow.Operators;

public static unsafe partial class GradientNorm
{
    private static double Forward(CpuDevice device, IReadOnlyList<Parameter> parameters)
    {
        double sum = 0;
        for (int i = 0; i < parameters.Count; i++)
        {
            if (parameters[i].Value.Grad is { } gradient)
            {
                sum += SquaredSum(device, gradient);
            }
        }

        return Math.Sqrt(sum);
    }

    private static double SquaredSum(CpuDevice device, Tensor gradient)
    {
        int blocks = checked((int)((gradient.Count + Block.Length - 1) / Block.Length));
        using var scratch = new Scratch(device, sizeof(double) * (long)blocks);
        var partials = (double*)scratch.Address;
        device.Workers.For(blocks, new Block { Values = gradient.Floats, Count = gradient.Count, Partials = partials });
        double sum = 0;
        for (int i = 0; i < blocks; i++)
        {
            sum += partials[i];
        }

        return sum;
    }

    private struct Block : IParallelBody
    {
        public const int Length = 1 << 14;

        public float* Values;
        public long Count;
        public double* Partials;

        public readonly void Run(int index, int worker)
        {
            long first = (long)index * Length;
            int length = (int)Math.Min(Length, Count - first);
            float* values = Values + first;
            double sum = 0;
            for (int i = 0; i < length; i++)
            {
                sum += (double)values[i] * values[i];
            }

            Partials[index] = sum;
        }
    }
}
