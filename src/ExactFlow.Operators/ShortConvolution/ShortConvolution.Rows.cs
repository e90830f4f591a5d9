using System.Runtime.CompilerServices;
using ExactFlow.Tensors.Simd;

namespace ExactFlow.Operators;

public static unsafe partial class ShortConvolution
{
    /// <summary>
    /// The kernels: each passes over the channels of one token. Rows lie one after the other in memory and the few that are in use stay in the
    /// first-level cache, so memory is read front to back; walking along time instead, channel by channel, would touch a new page at every step.
    /// </summary>
    private static class Rows
    {
        /// <summary>z = bias + sum over taps of filter times input, taps in order.</summary>
        public static void PreActivation<TV>(in Window window, int width, float* taps, int tapStride, float* bias, float* z, int count)
            where TV : struct, IFloatVector<TV>
        {
            if (width == 4)
            {
                FourTaps<TV>(window[0], window[1], window[2], window[3], taps, tapStride, bias, z, count);
                return;
            }

            new ReadOnlySpan<float>(bias, count).CopyTo(new Span<float>(z, count));
            for (int tap = 0; tap < width; tap++)
            {
                RowMath.AddProductTo<TV>(taps + ((long)tap * tapStride), window[tap], z, count);
            }
        }

        /// <summary>z = start + w0 x0 + w1 x1 + w2 x2 + w3 x3; z may be start.</summary>
        [MethodImpl(MethodImplOptions.NoInlining | MethodImplOptions.AggressiveOptimization)]
        public static void FourTaps<TV>(float* x0, float* x1, float* x2, float* x3, float* w0, int stride, float* start, float* z, int count)
            where TV : struct, IFloatVector<TV>
        {
            float* w1 = w0 + stride;
            float* w2 = w1 + stride;
            float* w3 = w2 + stride;
            int i = 0;
            for (; i + TV.Count <= count; i += TV.Count)
            {
                TV sum = TV.MultiplyAdd(TV.Load(w0 + i), TV.Load(x0 + i), TV.Load(start + i));
                sum = TV.MultiplyAdd(TV.Load(w1 + i), TV.Load(x1 + i), sum);
                sum = TV.MultiplyAdd(TV.Load(w2 + i), TV.Load(x2 + i), sum);
                TV.MultiplyAdd(TV.Load(w3 + i), TV.Load(x3 + i), sum).Store(z + i);
            }

            int rest = count - i;
            if (rest > 0)
            {
                TV sum = TV.MultiplyAdd(TV.LoadPartial(w0 + i, rest), TV.LoadPartial(x0 + i, rest), TV.LoadPartial(start + i, rest));
                sum = TV.MultiplyAdd(TV.LoadPartial(w1 + i, rest), TV.LoadPartial(x1 + i, rest), sum);
                sum = TV.MultiplyAdd(TV.LoadPartial(w2 + i, rest), TV.LoadPartial(x2 + i, rest), sum);
                TV.MultiplyAdd(TV.LoadPartial(w3 + i, rest), TV.LoadPartial(x3 + i, rest), sum).StorePartial(z + i, rest);
            }
        }

        /// <summary>y = SiLU(y).</summary>
        [MethodImpl(MethodImplOptions.NoInlining | MethodImplOptions.AggressiveOptimization)]
        public static void Silu<TV>(float* y, int count)
            where TV : struct, IFloatVector<TV>
        {
            int i = 0;
            for (; i + TV.Count <= count; i += TV.Count)
            {
                SimdMath.Silu(TV.Load(y + i)).Store(y + i);
            }

            int rest = count - i;
            if (rest > 0)
            {
                SimdMath.Silu(TV.LoadPartial(y + i, rest)).StorePartial(y + i, rest);
            }
        }

        /// <summary>z = dy SiLU'(z).</summary>
        [MethodImpl(MethodImplOptions.NoInlining | MethodImplOptions.AggressiveOptimization)]
        public static void SiluGradient<TV>(float* dy, float* z, int count)
            where TV : struct, IFloatVector<TV>
        {
            int i = 0;
            for (; i + TV.Count <= count; i += TV.Count)
            {
                TV value = TV.Load(z + i);
                (TV.Load(dy + i) * Elementwise.SiluSlope(value, SimdMath.Sigmoid(value))).Store(z + i);
            }

            int rest = count - i;
            if (rest > 0)
            {
                TV value = TV.LoadPartial(z + i, rest);
                (TV.LoadPartial(dy + i, rest) * Elementwise.SiluSlope(value, SimdMath.Sigmoid(value))).StorePartial(z + i, rest);
            }
        }

        /// <summary>Adds gradient times input to the sum of every tap, and the gradient to the last sum, the bias's.</summary>
        public static void AddToSums<TV>(in Window window, int width, float* gradient, float* sums, int stride, int count)
            where TV : struct, IFloatVector<TV>
        {
            if (width == 4)
            {
                AddFourToSums<TV>(window[0], window[1], window[2], window[3], gradient, sums, stride, count);
                return;
            }

            for (int tap = 0; tap < width; tap++)
            {
                RowMath.AddProductTo<TV>(gradient, window[tap], sums + ((long)tap * stride), count);
            }

            RowMath.AddTo<TV>(gradient, sums + ((long)width * stride), count);
        }

        [MethodImpl(MethodImplOptions.NoInlining | MethodImplOptions.AggressiveOptimization)]
        private static void AddFourToSums<TV>(float* x0, float* x1, float* x2, float* x3, float* gradient, float* s0, int stride, int count)
            where TV : struct, IFloatVector<TV>
        {
            float* s1 = s0 + stride;
            float* s2 = s1 + stride;
            float* s3 = s2 + stride;
            float* s4 = s3 + stride;
            int i = 0;
            for (; i + TV.Count <= count; i += TV.Count)
            {
                TV value = TV.Load(gradient + i);
                TV.MultiplyAdd(value, TV.Load(x0 + i), TV.Load(s0 + i)).Store(s0 + i);
                TV.MultiplyAdd(value, TV.Load(x1 + i), TV.Load(s1 + i)).Store(s1 + i);
                TV.MultiplyAdd(value, TV.Load(x2 + i), TV.Load(s2 + i)).Store(s2 + i);
                TV.MultiplyAdd(value, TV.Load(x3 + i), TV.Load(s3 + i)).Store(s3 + i);
                (value + TV.Load(s4 + i)).Store(s4 + i);
            }

            for (; i < count; i++)
            {
                s0[i] += gradient[i] * x0[i];
                s1[i] += gradient[i] * x1[i];
                s2[i] += gradient[i] * x2[i];
                s3[i] += gradient[i] * x3[i];
                s4[i] += gradient[i];
            }
        }
    }
}
