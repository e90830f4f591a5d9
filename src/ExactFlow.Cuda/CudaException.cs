namespace ExactFlow.Cuda;

/// <summary>A call to the CUDA driver failed. The message names the call, what it was for, and the driver's own words.</summary>
public sealed class CudaException : Exception
{
    /// <summary>An error of one driver call.</summary>
    /// <param name="call">The driver function, such as <c>cuMemAllocAsync</c>.</param>
    /// <param name="result">What it returned.</param>
    /// <param name="message">The sentence to show.</param>
    public CudaException(string call, CudaResult result, string message)
        : base(message)
    {
        Call = call;
        Result = result;
    }

    /// <summary>The driver function that failed.</summary>
    public string Call { get; }

    /// <summary>The status it returned.</summary>
    public CudaResult Result { get; }
}
