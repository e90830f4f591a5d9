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

        /// <summary>
        /// The same sums for four tokens, each input and filter read once for all of them: y_k = bias + w0 x_k + w1 x_(k+1) + w2 x_(k+2) + w3 x_(k+3),
        /// with x_j = x + j stride. The order of each sum is that of <see cref="FourTaps"/>, so a token has the same bits whichever way it came.
        /// </summary>
        [MethodImpl(MethodImplOptions.NoInlining | MethodImplOptions.AggressiveOptimization)]
        public static void FourTokens<TV>(float* x, long stride, float* w0, int tapStride, float* bias, float* y0, float* y1, float* y2, float* y3, int count)
            where TV : struct, IFloatVector<TV>
        {
            float* w2 = w0 + (2L * tapStride);
            float* x2 = x + (2 * stride);
            float* x4 = x2 + (2 * stride);
            int i = 0;
            for (; i + TV.Count <= count; i += TV.Count)
            {
                TV a = TV.Load(bias + i);
                TV b = a;
                TV c = a;
                TV d = a;
                TV tap = TV.Load(w0 + i);
                TV first = TV.Load(x + i + stride);
                TV second = TV.Load(x2 + i);
                TV third = TV.Load(x2 + i + stride);
                a = TV.MultiplyAdd(tap, TV.Load(x + i), a);
                b = TV.MultiplyAdd(tap, first, b);
                c = TV.MultiplyAdd(tap, second, c);
                d = TV.MultiplyAdd(tap, third, d);
                tap = TV.Load(w0 + i + tapStride);
                a = TV.MultiplyAdd(tap, first, a);
                b = TV.MultiplyAdd(tap, second, b);
                c = TV.MultiplyAdd(tap, third, c);
                first = TV.Load(x4 + i);
                d = TV.MultiplyAdd(tap, first, d);
                tap = TV.Load(w2 + i);
                a = TV.MultiplyAdd(tap, second, a);
                b = TV.MultiplyAdd(tap, third, b);
                c = TV.MultiplyAdd(tap, first, c);
                second = TV.Load(x4 + i + stride);
                d = TV.MultiplyAdd(tap, second, d);
                tap = TV.Load(w2 + i + tapStride);
                TV.MultiplyAdd(tap, third, a).Store(y0 + i);
                TV.MultiplyAdd(tap, first, b).Store(y1 + i);
                TV.MultiplyAdd(tap, second, c).Store(y2 + i);
                TV.MultiplyAdd(tap, TV.Load(x4 + i + (2 * stride)), d).Store(y3 + i);
            }

            if (i < count)
            {
                float* w = w0 + i;
                x += i;
                FourTaps<TV>(x, x + stride, x + (2 * stride), x + (3 * stride), w, tapStride, bias + i, y0 + i, count - i);
                FourTaps<TV>(x + stride, x + (2 * stride), x + (3 * stride), x + (4 * stride), w, tapStride, bias + i, y1 + i, count - i);
                FourTaps<TV>(x + (2 * stride), x + (3 * stride), x + (4 * stride), x + (5 * stride), w, tapStride, bias + i, y2 + i, count - i);
                FourTaps<TV>(x + (3 * stride), x + (4 * stride), x + (5 * stride), x + (6 * stride), w, tapStride, bias + i, y3 + i, count - i);
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

        /// <summary>What four calls for one token each would add to the five sums, which are read and written once.</summary>
        [MethodImpl(MethodImplOptions.NoInlining | MethodImplOptions.AggressiveOptimization)]
        public static void AddFourTokensToSums<TV>(float* x, long stride, float* g0, float* g1, float* g2, float* g3, float* s0, int sumStride, int count)
            where TV : struct, IFloatVector<TV>
        {
            float* s2 = s0 + (2L * sumStride);
            float* x2 = x + (2 * stride);
            float* x4 = x2 + (2 * stride);
            int i = 0;
            for (; i + TV.Count <= count; i += TV.Count)
            {
                TV a = TV.Load(g0 + i);
                TV b = TV.Load(g1 + i);
                TV c = TV.Load(g2 + i);
                TV d = TV.Load(g3 + i);
                TV first = TV.Load(x + i + stride);
                TV second = TV.Load(x2 + i);
                TV third = TV.Load(x2 + i + stride);
                TV sum = TV.MultiplyAdd(a, TV.Load(x + i), TV.Load(s0 + i));
                TV.MultiplyAdd(d, third, TV.MultiplyAdd(c, second, TV.MultiplyAdd(b, first, sum))).Store(s0 + i);
                TV fourth = TV.Load(x4 + i);
                sum = TV.MultiplyAdd(a, first, TV.Load(s0 + i + sumStride));
                TV.MultiplyAdd(d, fourth, TV.MultiplyAdd(c, third, TV.MultiplyAdd(b, second, sum))).Store(s0 + i + sumStride);
                first = TV.Load(x4 + i + stride);
                sum = TV.MultiplyAdd(a, second, TV.Load(s2 + i));
                TV.MultiplyAdd(d, first, TV.MultiplyAdd(c, fourth, TV.MultiplyAdd(b, third, sum))).Store(s2 + i);
                second = TV.Load(x4 + i + (2 * stride));
                sum = TV.MultiplyAdd(a, third, TV.Load(s2 + i + sumStride));
                TV.MultiplyAdd(d, second, TV.MultiplyAdd(c, first, TV.MultiplyAdd(b, fourth, sum))).Store(s2 + i + sumStride);
                (TV.Load(s2 + i + (2L * sumStride)) + ((a + b) + (c + d))).Store(s2 + i + (2L * sumStride));
            }

            if (i < count)
            {
                x += i;
                s0 += i;
                AddFourToSums<TV>(x, x + stride, x + (2 * stride), x + (3 * stride), g0 + i, s0, sumStride, count - i);
                AddFourToSums<TV>(x + stride, x + (2 * stride), x + (3 * stride), x + (4 * stride), g1 + i, s0, sumStride, count - i);
                AddFourToSums<TV>(x + (2 * stride), x + (3 * stride), x + (4 * stride), x + (5 * stride), g2 + i, s0, sumStride, count - i);
                AddFourToSums<TV>(x + (3 * stride), x + (4 * stride), x + (5 * stride), x + (6 * stride), g3 + i, s0, sumStride, count - i);
            }
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
