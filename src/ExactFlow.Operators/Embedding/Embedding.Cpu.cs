using ExactFlow.Tensors;
using ExactFlow.Tensors.Memory;
using ExactFlow.Tensors.Parallel;
using ExactFlow.Tensors.Simd;

namespace ExactFlow.Operators;

public static unsafe partial class Embedding
{
    /// <summary>Table rows that one index of the backward loop owns.</summary>
    private const int RowsPerBlock = 64;

    private static void Forward(CpuDevice device, Tensor ids, Tensor table, Tensor y)
    {
        ReadOnlySpan<int> tokens = ids.Span<int>();
        int vocabulary = table.Shape[0];
        for (int i = 0; i < tokens.Length; i++)
        {
            if ((uint)tokens[i] >= (uint)vocabulary)
            {
                throw new InvalidInputException(
                    $"Embedding found id {tokens[i]} at position {i} of ids {ids.Shape}, but the table {table.Shape} has rows 0 to {vocabulary - 1}: use the tokenizer that the model was made for.");
            }
        }

        int dimension = table.Shape[1];
        FixedBlocks blocks = FixedBlocks.ForMap(ids.Count, dimension);
        device.Workers.For(
            blocks.Count, new ForwardBody { Blocks = blocks, Dimension = dimension, Ids = (int*)ids.Address, Table = table.Floats, Y = y.Floats });
    }

    /// <summary>
    /// Adds the gradient of every token to its row of the table. Tokens are first sorted by id (a counting sort, so tokens of one id stay in order),
    /// then each row is written by one worker: the sums have a fixed order and every row is written once.
    /// </summary>
    private static void Backward(CpuDevice device, Tensor ids, int vocabulary, Tensor outputGradient, GradientTarget tableGradient)
    {
        ReadOnlySpan<int> tokens = ids.Span<int>();
        using var scratch = new Scratch(device, (vocabulary + 1L + tokens.Length) * sizeof(int));
        int* ends = (int*)scratch.Address;
        int* sorted = ends + vocabulary + 1;
        SortById(tokens, vocabulary, ends, sorted);
        int dimension = outputGradient.Shape[^1];
        Simd.For(
            device.Workers,
            (vocabulary + RowsPerBlock - 1) / RowsPerBlock,
            new BackwardBody
            {
                Vocabulary = vocabulary,
                Dimension = dimension,
                Ends = ends,
                Sorted = sorted,
                OutputGradient = outputGradient.Floats,
                Gradient = tableGradient.Address,
                Accumulate = tableGradient.Accumulate,
            });
    }

    /// <summary>Positions of id i, ascending, end up in sorted[ends[i] .. ends[i + 1]).</summary>
    private static void SortById(ReadOnlySpan<int> tokens, int vocabulary, int* ends, int* sorted)
    {
        new Span<int>(ends, vocabulary + 1).Clear();
        foreach (int id in tokens)
        {
            ends[id]++;
        }

        int sum = 0;
        for (int id = 0; id <= vocabulary; id++)
        {
            sum += ends[id];
            ends[id] = sum;
        }

        // Filling from the back leaves each entry at the start of its id, which is the end of the id before.
        for (int i = tokens.Length - 1; i >= 0; i--)
        {
            sorted[--ends[tokens[i]]] = i;
        }
    }

    private struct ForwardBody : IParallelBody
    {
        public FixedBlocks Blocks;
        public int Dimension;
        public int* Ids;
        public float* Table;
        public float* Y;

        public readonly void Run(int index, int worker)
        {
            for (long row = Blocks.Start(index); row < Blocks.End(index); row++)
            {
                new ReadOnlySpan<float>(Table + ((long)Ids[row] * Dimension), Dimension).CopyTo(new Span<float>(Y + (row * Dimension), Dimension));
            }
        }
    }

    private struct BackwardBody : IVectorBody
    {
        public int Vocabulary;
        public int Dimension;
        public int* Ends;
        public int* Sorted;
        public float* OutputGradient;
        public float* Gradient;
        public bool Accumulate;

        public readonly void Run<TV>(int index, int worker)
            where TV : struct, IFloatVector<TV>
        {
            int last = Math.Min(Vocabulary, (index + 1) * RowsPerBlock);
            for (int id = index * RowsPerBlock; id < last; id++)
            {
                float* target = Gradient + ((long)id * Dimension);
                if (!Accumulate)
                {
                    new Span<float>(target, Dimension).Clear();
                }

                for (int i = Ends[id]; i < Ends[id + 1]; i++)
                {
                    RowMath.AddTo<TV>(OutputGradient + ((long)Sorted[i] * Dimension), target, Dimension);
                }
            }
        }
    }
}
