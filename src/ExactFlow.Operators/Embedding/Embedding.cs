using ExactFlow.Tensors;
using ExactFlow.Tensors.Autograd;

namespace ExactFlow.Operators;

/// <summary>Looks up rows of a table by token id.</summary>
public static unsafe partial class Embedding
{
    /// <summary>y[..., :] = table[ids[...], :].</summary>
    /// <param name="ids">Int32 <c>[...]</c>, up to four dimensions, each id in [0, vocab).</param>
    /// <param name="table">Float32 <c>[vocab, dim]</c>.</param>
    /// <returns>Float32 <c>[..., dim]</c>.</returns>
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
        Tensor y = table.Device.Empty(Shape.Of(extents[..(ids.Shape.Rank + 1)]));
        switch (table.Device)
        {
            case CpuDevice cpu:
                Forward(cpu, ids, table, y);
                break;
            default:
                throw Require.Implementation("Embedding", table.Device);
        }

        if (Recording.TapeFor(table) is { } tape)
        {
            Record(tape, ids, table, y);
        }

        return y;
    }

    private static void Record(Tape tape, Tensor ids, Tensor table, Tensor y)
        => tape.Record(y, () => Backward((CpuDevice)table.Device, ids, table.Shape[0], y.Grad!, GradientTarget.Of(table)));
}
