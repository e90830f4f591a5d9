namespace ExactFlow.Cuda;

/// <summary>Status codes of the CUDA driver that this project acts on; any other code passes through as its number.</summary>
public enum CudaResult
{
    /// <summary>CUDA_SUCCESS.</summary>
    Success = 0,

    /// <summary>CUDA_ERROR_INVALID_VALUE: an argument outside its range.</summary>
    InvalidValue = 1,

    /// <summary>CUDA_ERROR_OUT_OF_MEMORY.</summary>
    OutOfMemory = 2,

    /// <summary>CUDA_ERROR_NO_DEVICE: the driver is there, a GPU is not.</summary>
    NoDevice = 100,

    /// <summary>CUDA_ERROR_INVALID_DEVICE.</summary>
    InvalidDevice = 101,

    /// <summary>CUDA_ERROR_INVALID_CONTEXT: a call from a thread without the context.</summary>
    InvalidContext = 201,

    /// <summary>CUDA_ERROR_INVALID_SOURCE: kernels that do not compile.</summary>
    InvalidSource = 300,

    /// <summary>CUDA_ERROR_INVALID_HANDLE: a stream, event, module or graph that does not exist.</summary>
    InvalidHandle = 400,

    /// <summary>CUDA_ERROR_NOT_FOUND: no kernel of that name.</summary>
    NotFound = 500,

    /// <summary>CUDA_ERROR_ILLEGAL_ADDRESS: a kernel or a copy left its memory.</summary>
    IllegalAddress = 700,

    /// <summary>CUDA_ERROR_LAUNCH_FAILED.</summary>
    LaunchFailed = 719,

    /// <summary>CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED: a call that waits, while the stream is being captured.</summary>
    StreamCaptureUnsupported = 900,

    /// <summary>CUDA_ERROR_STREAM_CAPTURE_UNMATCHED: the end of a capture that was not begun.</summary>
    StreamCaptureUnmatched = 903,

    /// <summary>CUDA_ERROR_UNKNOWN.</summary>
    Unknown = 999,
}
