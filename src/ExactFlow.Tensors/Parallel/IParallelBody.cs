namespace ExactFlow.Tensors.Parallel;

/// <summary>The body of a parallel loop: a struct holding raw pointers and sizes, run once per index.</summary>
/// <remarks>A struct and a generic loop instead of a delegate: no closure is allocated and the JIT inlines the body.</remarks>
public interface IParallelBody
{
    /// <summary>Does the work of one index.</summary>
    /// <param name="index">The index, 0 up to the loop's count.</param>
    /// <param name="worker">Which worker runs it, 0 up to <see cref="WorkerPool.WorkerCount"/>: the number of a scratch area nobody else uses meanwhile.</param>
    void Run(int index, int worker);
}
