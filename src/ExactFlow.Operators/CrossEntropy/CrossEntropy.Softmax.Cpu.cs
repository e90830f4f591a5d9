using System.Runtime.CompilerServices;
using ExactFlow.Tensors.Simd;

namespace ExactFlow.Operators;

public static unsafe partial class CrossEntropy
{
    /// <summary>One token's logits become its loss and, in place, the gradient of the mean loss with respect to them.</summary>
    private struct SoftmaxRow : IVectorBody
    {
        /// <summary>Exponentials summed in float32 before their sum goes on in float64.</summary>
        private const int Span = 4096;

        public float* Logits;
        public int Vocabulary;
        public int* Targets;
        public int IgnoreIndex;
        public float* Losses;

        /// <summary>One over the number of targets, or 0 when no gradient is wanted.</summary>
        public float GradientScale;

        public readonly void Run<TV>(int index, int worker)
            where TV : struct, IFloatVector<TV>
        {
            float* row = Logits + ((long)index * Vocabulary);
            int target = Targets[index];
            if (target == IgnoreIndex)
            {
                Losses[index] = 0;
                new Span<float>(row, Vocabulary).Clear();
                return;
            }

            float max = Largest<TV>(row, Vocabulary);
            double targetLogit = (double)row[target] - max;
            double sum = 0;
            for (int start = 0; start < Vocabulary; start += Span)
            {
                sum += Exponentials<TV>(row + start, Math.Min(Span, Vocabulary - start), max);
            }

            Losses[index] = (float)(Math.Log(sum) - targetLogit);
            if (GradientScale != 0)
            {
                Scale<TV>(row, Vocabulary, (float)(GradientScale / sum));
                row[target] -= GradientScale;
            }
        }

        [MethodImpl(MethodImplOptions.AggressiveOptimization | MethodImplOptions.NoInlining)]
        private static float Largest<TV>(float* row, int count)
            where TV : struct, IFloatVector<TV>
        {
            TV max0 = TV.Broadcast(float.NegativeInfinity);
            TV max1 = max0;
            int i = 0;
            for (; i + (2 * TV.Count) <= count; i += 2 * TV.Count)
            {
                max0 = TV.Max(max0, TV.Load(row + i));
                max1 = TV.Max(max1, TV.Load(row + i + TV.Count));
            }

            float max = TV.Max(max0, max1).Largest();
            for (; i < count; i++)
            {
                max = Math.Max(max, row[i]);
            }

            return max;
        }

        /// <summary>row = exp(row - max); returns the sum. Lanes past the end are left out of it.</summary>
        [MethodImpl(MethodImplOptions.AggressiveOptimization | MethodImplOptions.NoInlining)]
        private static float Exponentials<TV>(float* row, int count, float max)
            where TV : struct, IFloatVector<TV>
        {
            TV shift = TV.Broadcast(max);
            TV sum0 = TV.Zero;
            TV sum1 = TV.Zero;
            int i = 0;
            for (; i + (2 * TV.Count) <= count; i += 2 * TV.Count)
            {
                TV value0 = SimdMath.Exp(TV.Load(row + i) - shift);
                TV value1 = SimdMath.Exp(TV.Load(row + i + TV.Count) - shift);
                value0.Store(row + i);
                value1.Store(row + i + TV.Count);
                sum0 += value0;
                sum1 += value1;
            }

            for (; i < count; i += TV.Count)
            {
                int lanes = Math.Min(TV.Count, count - i);
                SimdMath.Exp(TV.LoadPartial(row + i, lanes) - shift).StorePartial(row + i, lanes);
                sum0 += TV.LoadPartial(row + i, lanes);
            }

            return (sum0 + sum1).Sum();
        }

        [MethodImpl(MethodImplOptions.AggressiveOptimization | MethodImplOptions.NoInlining)]
        private static void Scale<TV>(float* row, int count, float factor)
            where TV : struct, IFloatVector<TV>
        {
            TV factors = TV.Broadcast(factor);
            for (int i = 0; i < count; i += TV.Count)
            {
                int lanes = Math.Min(TV.Count, count - i);
                (TV.LoadPartial(row + i, lanes) * factors).StorePartial(row + i, lanes);
            }
        }
    }

    /// <summary>target = factor * source, or target += that.</summary>
    private readonly struct ScaleBy(float factor) : IUnaryOperator
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public TV Apply<TV>(TV x)
            where TV : struct, IFloatVector<TV>
            => x * TV.Broadcast(factor);
    }

    private readonly struct AddScaledBy(float factor) : IBinaryOperator
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public TV Apply<TV>(TV a, TV b)
            where TV : struct, IFloatVector<TV>
            => TV.MultiplyAdd(a, TV.Broadcast(factor), b);
    }
}
