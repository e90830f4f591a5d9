namespace ExactFlow.Tensors.Simd;

/// <summary>Work written once for all vector widths: a struct that holds its arguments, run by <see cref="Simd.Run{TAction}"/>.</summary>
public interface IVectorAction
{
    /// <summary>Does the work with vectors of type <typeparamref name="TV"/>.</summary>
    void Run<TV>()
        where TV : struct, IFloatVector<TV>;
}

/// <summary>The body of a parallel loop written once for all vector widths: a struct holding raw pointers and sizes, run by <see cref="Simd.For{TBody}"/>.</summary>
public interface IVectorBody
{
    /// <summary>Does the work of one index with vectors of type <typeparamref name="TV"/>.</summary>
    /// <param name="index">The index, 0 up to the loop's count.</param>
    /// <param name="worker">Which worker runs it: the number of a scratch area nobody else uses meanwhile.</param>
    void Run<TV>(int index, int worker)
        where TV : struct, IFloatVector<TV>;
}
