using ExactFlow.Tensors;
using ExactFlow.Tensors.Parallel;
using ExactFlow.Tensors.Simd;

namespace ExactFlow.Operators;

public static unsafe partial class Split
{
    private static void Forward(CpuDevice device, Tensor x, Tensor[] parts)
    {
        int dimension = x.Shape[^1];
        FixedBlocks blocks = FixedBlocks.ForMap(x.Shape.RowCount(), dimension);
        int column = 0;
        foreach (Tensor part in parts)
        {
            int width = part.Shape[^1];
            device.Workers.For(blocks.Count, new ForwardBody { Blocks = blocks, Stride = dimension, Width = width, X = x.Floats + column, Part = part.Floats });
            column += width;
        }
    }

    private static void Backward(CpuDevice device, Shape shape, Tensor[] parts, GradientTarget gradient)
    {
        int dimension = shape[^1];
        FixedBlocks blocks = FixedBlocks.ForMap(shape.RowCount(), dimension);
        int column = 0;
        foreach (Tensor part in parts)
        {
            int width = part.Shape[^1];
            Tensor? partGradient = part.Grad;
            Simd.For(
                device.Workers,
                blocks.Count,
                new BackwardBody
                {
                    Blocks = blocks,
                    Stride = dimension,
                    Width = width,
                    PartGradient = partGradient is null ? null : partGradient.Floats,
                    Gradient = gradient.Address + column,
                    Accumulate = gradient.Accumulate,
                });
            column += width;
        }
    }

    private struct ForwardBody : IParallelBody
    {
        public FixedBlocks Blocks;
        public int Stride;
        public int Width;
        public float* X;
        public float* Part;

        public readonly void Run(int index, int worker)
        {
            for (long row = Blocks.Start(index); row < Blocks.End(index); row++)
            {
                new ReadOnlySpan<float>(X + (row * Stride), Width).CopyTo(new Span<float>(Part + (row * Width), Width));
            }
        }
    }

    private struct BackwardBody : IVectorBody
    {
        public FixedBlocks Blocks;
        public int Stride;
        public int Width;
        public float* PartGradient;
        public float* Gradient;
        public bool Accumulate;

        public readonly void Run<TV>(int index, int worker)
            where TV : struct, IFloatVector<TV>
        {
            for (long row = Blocks.Start(index); row < Blocks.End(index); row++)
            {
                var target = new Span<float>(Gradient + (row * Stride), Width);
                if (PartGradient != null && Accumulate)
                {
                    RowMath.AddTo<TV>(PartGradient + (row * Width), Gradient + (row * Stride), Width);
                }
                else if (PartGradient != null)
                {
                    new ReadOnlySpan<float>(PartGradient + (row * Width), Width).CopyTo(target);
                }
                else if (!Accumulate)
                {
                    target.Clear();
                }
            }
        }
    }
}
