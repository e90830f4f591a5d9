using ExactFlow.Cuda;
using ExactFlow.Tensors;
using ExactFlow.Tensors.Autograd;

namespace ExactFlow.Operators;

/// <summary>Looks up rows of a table by token id.</summary>
public static unsafe partial class Embedding
{
    /// <summary>y[..., :] = table[ids[...], :].</summary>
    /// <param name="ids">Int32 <c>[...]</c>, up to four dimensions, each id in [0, vocab). Another id is an error on the CPU, and a row of NaN on a GPU, which is not waited for.</param>
    /// <param name="table">Float32 <c>[vocab, dim]</c>; on a GPU also bfloat16.</param>
    /// <returns><c>[..., dim]</c> in the format of the table.</returns>
    /// <exception cref="InvalidInputException">An id is outside the table, the table is not a matrix, or dtypes or devices do not fit.</exception>
    public static Tensor Apply(Tensor ids, Tensor table)
    {
        Require.Int32("Embedding", "ids", ids);
        Require.Rows("Embedding", "table", table, rank: 2);
        Require.SameDevice("Embedding", "ids", ids, "table", table);
        if (table.Shape.Rank != 2 || ids.Shape.Rank >= Shape.MaxRank)
        {
            throw new InvalidInputException(
                $"Embedding looks up ids of at most {Shape.MaxRank - 1} dimensions in a table [vocab, dim], but ids are {ids.Shape} and the table is {table.Shape}: reshape them.");
        }

        Span<int> extents = stackalloc int[Shape.MaxRank];
        ids.Shape.CopyTo(extents);
        extents[ids.Shape.Rank] = table.Shape[1];
        Tensor y = table.Device.Empty(Shape.Of(extents[..(ids.Shape.Rank + 1)]), table.DType);
        Tape? tape = Recording.TapeFor(table);
        switch (table.Device)
        {
            case CpuDevice cpu:
                Forward(cpu, ids, table, y);
                tape?.Record(y, () => Backward(cpu, ids, table.Shape[0], y.Grad!, GradientTarget.Of(table)));
                break;
            case CudaDevice gpu:
                Forward(gpu, ids, table, y);
                tape?.Record(y, () => Backward(gpu, ids, table, y.Grad!));
                break;
            default:
                throw Require.Implementation("Embedding", table.Device);
        }

        return y;
    }
}
