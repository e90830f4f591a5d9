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

        [MethodImpl(MethodImplOptions.AggressiveOptimization)]
        public readonly void Run<TV>(int index, int worker)
            where TV : struct, IFloatVector<TV>
        {
            for (long row = Blocks.Start(index); row < Blocks.End(index); row++)
            {
                float* a = A + (row * Period);
                float* y = Y + (row * Period);
                int length = (int)Math.Min(Period, Count - (row * Period));
                for (int i = 0; i < length; i += TV.Count)
                {
                    int left = length - i;
                    TV x = RowMath.LoadUpTo<TV>(a + i, left) + RowMath.LoadUpTo<TV>(Biases + i, left);
                    RowMath.StoreUpTo(RowMath.LoadUpTo<TV>(Rates + i, left) * SimdMath.Softplus(x), y + i, left);
                }
            }
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

        [MethodImpl(MethodImplOptions.AggressiveOptimization)]
        public readonly void Run<TV>(int index, int worker)
            where TV : struct, IFloatVector<TV>
        {
            float* rateSum = Partial + (2L * index * Period);
            float* biasSum = rateSum + Period;
            new Span<float>(rateSum, 2 * Period).Clear();
            for (long row = Blocks.Start(index); row < Blocks.End(index); row++)
            {
                float* a = A + (row * Period);
                float* dy = OutputGradient + (row * Period);
                int length = (int)Math.Min(Period, Count - (row * Period));
                for (int i = 0; i < length; i += TV.Count)
                {
                    int left = length - i;
                    TV x = RowMath.LoadUpTo<TV>(a + i, left) + RowMath.LoadUpTo<TV>(Biases + i, left);
                    TV rated = RowMath.LoadUpTo<TV>(dy + i, left) * RowMath.LoadUpTo<TV>(Rates + i, left);
                    TV gradient = rated * SimdMath.Sigmoid(x);
                    RowMath.StoreUpTo(TV.MultiplyAdd(rated, SimdMath.Softplus(x), RowMath.LoadUpTo<TV>(rateSum + i, left)), rateSum + i, left);
                    RowMath.StoreUpTo(gradient + RowMath.LoadUpTo<TV>(biasSum + i, left), biasSum + i, left);
                    InputGradient.Write(gradient, (row * Period) + i, left);
                }
            }
        }
    }
}
