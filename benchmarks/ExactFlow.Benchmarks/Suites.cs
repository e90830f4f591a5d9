using ExactFlow.Training.Benchmarks;

namespace ExactFlow.Benchmarks;

/// <summary>All suites: those with peers and parts, and the ones that <c>exactflow bench</c> has too. A new one is a class with a Run function and a line here.</summary>
public static class Suites
{
    /// <summary>In the order of a full run.</summary>
    public static IReadOnlyList<BenchmarkSuite> All { get; } =
    [
        new("machine", "ceilings: matrix product, copy and read rates", MachineSuite.Run),
        new("matmul", "matrix products of squares and of language models, against OpenBLAS", MatrixProductSuite.Run),
        new("tile", "single-threaded products of cache-sized tiles, against the packed product's rate", TileProductSuite.Run),
        new("matvec", "decoding: few rows times a weight, against the read bandwidth", MatrixVectorSuite.Run),
        new("decode", "language models, one token at a time: share of the read bandwidth, and time and memory over the length", DecodeSuite.Run),
        new("math", "float32 functions, vectorised, against the framework's", MathSuite.Run),
        new("operators", "norms, activations, convolutions and the like: bytes they must move, against a copy", OperatorSuite.Run),
        new("tokenizer", "byte-level BPE: learning, encoding, decoding, as a share of one thread's rate", TokenizerSuite.Run),
        new("decode-cuda", "decoding on a GPU, 374M parameters in bfloat16: whole tokens, and each kind of kernel by itself", DecodeCudaSuite.Run),
        .. BenchmarkSuite.OfProject.Where(suite => suite.Name != "matmul"),
    ];
}
