namespace ExactFlow.Cuda;

/// <summary>What multiplies matrices on a GPU: cuBLASLt, or in tests loops over host memory.</summary>
public interface IMatrixProducts : IDisposable
{
    /// <summary>Queues a product on a stream; operands must live until it ran.</summary>
    /// <exception cref="CudaException">The library refused; the message holds the shapes.</exception>
    void Multiply(in MatrixProduct product, nint stream);
}
