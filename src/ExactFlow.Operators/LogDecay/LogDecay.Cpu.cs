using System.Runtime.CompilerServices;
using ExactFlow.Tensors;
using ExactFlow.Tensors.Memory;
using ExactFlow.Tensors.Simd;

namespace ExactFlow.Operators;

public static unsafe partial class LogDecay
{
    private static void Forward(CpuDevice device, Tensor a, Tensor aLog, Tensor dtBias, Tensor y)
    {
        int heads = a.Shape[^1];
        int period = Periodic.Length(heads);
        using var scratch = new Scratch(device, 2L * period * sizeof(float));
        float* rates = scratch.Floats;
        float* biases = rates + period;
        PrepareRows(aLog.Floats, dtBias.Floats, heads, rates, biases);
        FixedBlocks blocks = FixedBlocks.ForMap((a.Count + period - 1) / period, period);
        Simd.For(
            device.Workers,
            blocks.Count,
            new ForwardBody { Blocks = blocks, Period = period, Count = a.Count, A = a.Floats, Rates = rates, Biases = biases, Y = y.Floats });
    }

    private static void Backward(
        CpuDevice device,
        Tensor a,
        Tensor aLog,
        Tensor dtBias,
        Tensor outputGradient,
        GradientTarget inputGradient,
        GradientTarget rateGradient,
        GradientTarget biasGradient)
    {
        int heads = a.Shape[^1];
        int period = Periodic.Length(heads);
        FixedBlocks blocks = FixedBlocks.ForSums((a.Count + period - 1) / period, period);
        using var scratch = new Scratch(device, (4L + (2L * blocks.Count)) * period * sizeof(float));
        float* rates = scratch.Floats;
        float* biases = rates + period;
        float* sums = biases + period;
        float* partial = sums + (2L * period);
        PrepareRows(aLog.Floats, dtBias.Floats, heads, rates, biases);
        Simd.For(
            device.Workers,
            blocks.Count,
            new BackwardBody
            {
                Blocks = blocks,
                Period = period,
                Count = a.Count,
                A = a.Floats,
                Rates = rates,
                Biases = biases,
                OutputGradient = outputGradient.Floats,
                InputGradient = inputGradient,
                Partial = partial,
            });
        RowSums.Fold(device, partial, blocks.Count, 2L * period, 2 * period, sums, accumulate: false);
        if (rateGradient.IsWanted)
        {
            Periodic.Fold(sums, heads, rateGradient.Address, rateGradient.Accumulate);
        }

        if (biasGradient.IsWanted)
        {
            Periodic.Fold(sums + period, heads, biasGradient.Address, biasGradient.Accumulate);
        }
    }

    /// <summary>-exp(A_log) and dt_bias of each head, repeated to whole vectors.</summary>
    private static void PrepareRows(float* aLog, float* dtBias, int heads, float* rates, float* biases)
    {
        Periodic.Repeat(aLog, heads, rates);
        Periodic.Repeat(dtBias, heads, biases);
        for (int i = 0; i < Periodic.Length(heads); i++)
        {
            rates[i] = -MathF.Exp(rates[i]);
        }
    }

    private struct ForwardBody : IVectorBody
    {
        public FixedBlocks Blocks;
        public int Period;
        public long Count;
        public float* A;
        public float* Rates;
        public float* Biases;
        public float* Y;

        public readonly void Run<TV>(int index, int worker)
            where TV : struct, IFloatVector<TV>
        {
            for (long row = Blocks.Start(index); row < Blocks.End(index); row++)
            {
                RunRow<TV>(row * Period, (int)Math.Min(Period, Count - (row * Period)));
            }
        }

        [MethodImpl(MethodImplOptions.NoInlining | MethodImplOptions.AggressiveOptimization)]
        private readonly void RunRow<TV>(long start, int length)
            where TV : struct, IFloatVector<TV>
        {
            int i = 0;
            for (; i + TV.Count <= length; i += TV.Count)
            {
                Step<TV, WholeVector>(start, i, TV.Count);
            }

            if (i < length)
            {
                Step<TV, FirstLanes>(start, i, length - i);
            }
        }

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        private readonly void Step<TV, TLanes>(long start, int i, int count)
            where TV : struct, IFloatVector<TV>
            where TLanes : struct, ILanes
        {
            TV x = TLanes.Load<TV>(A + start + i, count) + TLanes.Load<TV>(Biases + i, count);
            TLanes.Store(TLanes.Load<TV>(Rates + i, count) * SimdMath.Softplus(x), Y + start + i, count);
        }
    }

    private struct BackwardBody : IVectorBody
    {
        public FixedBlocks Blocks;
        public int Period;
        public long Count;
        public float* A;
        public float* Rates;
        public float* Biases;
        public float* OutputGradient;
        public GradientTarget InputGradient;
        public float* Partial;

        public readonly void Run<TV>(int index, int worker)
            where TV : struct, IFloatVector<TV>
        {
            float* rateSum = Partial + (2L * index * Period);
            new Span<float>(rateSum, 2 * Period).Clear();
            for (long row = Blocks.Start(index); row < Blocks.End(index); row++)
            {
                RunRow<TV>(row * Period, (int)Math.Min(Period, Count - (row * Period)), rateSum, rateSum + Period);
            }
        }

        [MethodImpl(MethodImplOptions.NoInlining | MethodImplOptions.AggressiveOptimization)]
        private readonly void RunRow<TV>(long start, int length, float* rateSum, float* biasSum)
            where TV : struct, IFloatVector<TV>
        {
            int i = 0;
            for (; i + TV.Count <= length; i += TV.Count)
            {
                Step<TV, WholeVector>(start, i, rateSum, biasSum, TV.Count);
            }

            if (i < length)
            {
                Step<TV, FirstLanes>(start, i, rateSum, biasSum, length - i);
            }
        }

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        private readonly void Step<TV, TLanes>(long start, int i, float* rateSum, float* biasSum, int count)
            where TV : struct, IFloatVector<TV>
            where TLanes : struct, ILanes
        {
            TV x = TLanes.Load<TV>(A + start + i, count) + TLanes.Load<TV>(Biases + i, count);
            TV rated = TLanes.Load<TV>(OutputGradient + start + i, count) * TLanes.Load<TV>(Rates + i, count);
            TV gradient = rated * SimdMath.Sigmoid(x);
            TLanes.Store(TV.MultiplyAdd(rated, SimdMath.Softplus(x), TLanes.Load<TV>(rateSum + i, count)), rateSum + i, count);
            TLanes.Store(gradient + TLanes.Load<TV>(biasSum + i, count), biasSum + i, count);
            InputGradient.Write<TV, TLanes>(gradient, start + i, count);
        }
    }
}
