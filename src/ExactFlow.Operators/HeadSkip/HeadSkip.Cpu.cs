using ExactFlow.Tensors;
using ExactFlow.Tensors.Memory;
using ExactFlow.Tensors.Simd;

namespace ExactFlow.Operators;

public static unsafe partial class HeadSkip
{
    private static void Forward(CpuDevice device, Tensor output, Tensor x, Tensor weight, Tensor y)
    {
        int heads = weight.Shape[0];
        int dim = x.Shape[^1];
        FixedBlocks blocks = FixedBlocks.ForMap(x.Count / ((long)heads * dim), (long)heads * dim);
        Simd.For(
            device.Workers,
            blocks.Count,
            new ForwardBody { Blocks = blocks, Heads = heads, Dim = dim, Output = output.Floats, X = x.Floats, Weight = weight.Floats, Y = y.Floats });
    }

    private static void Backward(
        CpuDevice device, Tensor x, Tensor weight, Tensor gradient, GradientTarget outputGradient, GradientTarget inputGradient, GradientTarget weightGradient)
    {
        int heads = weight.Shape[0];
        int dim = x.Shape[^1];
        FixedBlocks blocks = FixedBlocks.ForSums(x.Count / ((long)heads * dim), (long)heads * dim);
        using var partial = new Scratch(device, (long)blocks.Count * heads * sizeof(float));
        Simd.For(
            device.Workers,
            blocks.Count,
            new BackwardBody
            {
                Blocks = blocks,
                Heads = heads,
                Dim = dim,
                X = x.Floats,
                Weight = weight.Floats,
                Gradient = gradient.Floats,
                OutputGradient = outputGradient,
                InputGradient = inputGradient,
                Partial = partial.Floats,
            });
        if (weightGradient.IsWanted)
        {
            RowSums.Fold(device, partial.Floats, blocks.Count, heads, heads, weightGradient.Address, weightGradient.Accumulate);
        }
    }

    private struct ForwardBody : IVectorBody
    {
        public FixedBlocks Blocks;
        public int Heads;
        public int Dim;
        public float* Output;
        public float* X;
        public float* Weight;
        public float* Y;

        public readonly void Run<TV>(int index, int worker)
            where TV : struct, IFloatVector<TV>
        {
            for (long i = Blocks.Start(index) * Heads; i < Blocks.End(index) * Heads; i++)
            {
                RunHead<TV>(i * Dim, TV.Broadcast(Weight[i % Heads]));
            }
        }

        private readonly void RunHead<TV>(long start, TV weight)
            where TV : struct, IFloatVector<TV>
        {
            int i = 0;
            for (; i + TV.Count <= Dim; i += TV.Count)
            {
                TV.MultiplyAdd(weight, TV.Load(X + start + i), TV.Load(Output + start + i)).Store(Y + start + i);
            }

            int rest = Dim - i;
            TV.MultiplyAdd(weight, TV.LoadPartial(X + start + i, rest), TV.LoadPartial(Output + start + i, rest)).StorePartial(Y + start + i, rest);
        }
    }

    private struct BackwardBody : IVectorBody
    {
        public FixedBlocks Blocks;
        public int Heads;
        public int Dim;
        public float* X;
        public float* Weight;
        public float* Gradient;
        public GradientTarget OutputGradient;
        public GradientTarget InputGradient;
        public float* Partial;

        public readonly void Run<TV>(int index, int worker)
            where TV : struct, IFloatVector<TV>
        {
            float* sums = Partial + ((long)index * Heads);
            new Span<float>(sums, Heads).Clear();
            for (long i = Blocks.Start(index) * Heads; i < Blocks.End(index) * Heads; i++)
            {
                int head = (int)(i % Heads);
                sums[head] += RunHead<TV>(i * Dim, TV.Broadcast(Weight[head]));
            }
        }

        /// <summary>Writes both gradients of a row of a head and returns the sum of g x.</summary>
        private readonly float RunHead<TV>(long start, TV weight)
            where TV : struct, IFloatVector<TV>
        {
            TV sum = TV.Zero;
            for (int i = 0; i < Dim; i += TV.Count)
            {
                int lanes = Math.Min(TV.Count, Dim - i);
                TV gradient = TV.LoadPartial(Gradient + start + i, lanes);
                sum = TV.MultiplyAdd(gradient, TV.LoadPartial(X + start + i, lanes), sum);
                OutputGradient.Write<TV, FirstLanes>(gradient, start + i, lanes);
                InputGradient.Write<TV, FirstLanes>(weight * gradient, start + i, lanes);
            }

            return sum.Sum();
        }
    }
}
