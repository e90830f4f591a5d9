namespace ExactFlow.Cuda;

/// <summary>Turns CUDA C++ into machine code for one architecture. The real one is <see cref="NvrtcCompiler"/>; tests use a fake.</summary>
public interface IKernelCompiler
{
    /// <summary>Name and version, part of the key of cached kernels: another compiler makes other code.</summary>
    string Version { get; }

    /// <summary>Compiles a source.</summary>
    /// <param name="name">The file's name, for messages.</param>
    /// <param name="source">CUDA C++ without headers from outside.</param>
    /// <param name="options">Compiler options, the architecture among them.</param>
    /// <returns>A cubin.</returns>
    /// <exception cref="CudaException">The source does not compile; the message holds the compiler's log.</exception>
    byte[] Compile(string name, string source, IReadOnlyList<string> options);
}
