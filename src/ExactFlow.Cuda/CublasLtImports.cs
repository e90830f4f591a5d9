using System.Runtime.InteropServices;

namespace ExactFlow.Cuda;

/// <summary>The import table of cuBLASLt, the matrix products of CUDA, with the numbers of its enumerations that are used here.</summary>
internal static unsafe partial class CublasLtImports
{
    /// <summary>The name the resolver of <see cref="CudaLibrary"/> answers to; no file is called so.</summary>
    public const string Library = "cublaslt";

    /// <summary>CUDA_R_32F of cudaDataType.</summary>
    public const int Float32 = 0;

    /// <summary>CUDA_R_16BF of cudaDataType.</summary>
    public const int BFloat16 = 14;

    /// <summary>CUBLAS_COMPUTE_32F: products and sums in float32; operands of float32 are not rounded to a shorter format.</summary>
    public const int ComputeFloat32 = 68;

    /// <summary>CUBLAS_OP_T.</summary>
    public const int Transpose = 1;

    /// <summary>CUBLASLT_EPILOGUE_BIAS.</summary>
    public const int EpilogueBias = 4;

    /// <summary>CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE: parts of a sum meet in float32 in the workspace, in a fixed order. Sums in one piece are always allowed.</summary>
    public const int ReduceInComputeType = 2;

    /// <summary>cublasLtMatmulDescAttributes_t.</summary>
    public enum ProductAttribute
    {
        /// <summary>int32, cublasOperation_t.</summary>
        TransposeA = 3,

        /// <summary>int32, cublasOperation_t.</summary>
        TransposeB = 4,

        /// <summary>uint32, cublasLtEpilogue_t.</summary>
        Epilogue = 7,

        /// <summary>Pointer.</summary>
        BiasPointer = 8,

        /// <summary>int32, cudaDataType.</summary>
        BiasType = 26,
    }

    /// <summary>cublasLtMatrixLayoutAttribute_t.</summary>
    public enum LayoutAttribute
    {
        /// <summary>int32.</summary>
        BatchCount = 5,

        /// <summary>int64, elements.</summary>
        BatchStride = 6,
    }

    /// <summary>cublasLtMatmulPreferenceAttributes_t.</summary>
    public enum PreferenceAttribute
    {
        /// <summary>uint64.</summary>
        MaxWorkspaceBytes = 1,

        /// <summary>uint32, bits of cublasLtReductionScheme_t.</summary>
        ReductionSchemes = 3,

        /// <summary>uint32; those of B, C and D follow.</summary>
        AlignmentOfA = 5,

        /// <summary>uint32.</summary>
        AlignmentOfB = 6,

        /// <summary>uint32.</summary>
        AlignmentOfC = 7,

        /// <summary>uint32.</summary>
        AlignmentOfD = 8,
    }

    /// <summary>cublasLtMatmulHeuristicResult_t: an algorithm (64 opaque bytes) and what it needs.</summary>
    [StructLayout(LayoutKind.Sequential)]
    public struct Heuristic
    {
        /// <summary>cublasLtMatmulAlgo_t.</summary>
        public fixed ulong Algorithm[8];

        /// <summary>Bytes of workspace.</summary>
        public nuint WorkspaceBytes;

        /// <summary>cublasStatus_t: 0 when the algorithm can run.</summary>
        public int Status;

        /// <summary>Share of the device that is used, in waves.</summary>
        public float Waves;

        /// <summary>Of no meaning.</summary>
        public fixed int Reserved[4];
    }

    [LibraryImport(Library, EntryPoint = "cublasLtGetVersion")]
    public static partial nuint GetVersion();

    [LibraryImport(Library, EntryPoint = "cublasLtGetStatusName")]
    public static partial nint GetStatusName(int status);

    [LibraryImport(Library, EntryPoint = "cublasLtCreate")]
    public static partial int Create(out nint handle);

    [LibraryImport(Library, EntryPoint = "cublasLtDestroy")]
    public static partial int Destroy(nint handle);

    [LibraryImport(Library, EntryPoint = "cublasLtMatmulDescCreate")]
    public static partial int ProductCreate(out nint product, int computeType, int scaleType);

    [LibraryImport(Library, EntryPoint = "cublasLtMatmulDescDestroy")]
    public static partial int ProductDestroy(nint product);

    [LibraryImport(Library, EntryPoint = "cublasLtMatmulDescSetAttribute")]
    public static partial int ProductSet(nint product, ProductAttribute attribute, void* value, nuint bytes);

    [LibraryImport(Library, EntryPoint = "cublasLtMatrixLayoutCreate")]
    public static partial int LayoutCreate(out nint layout, int type, ulong rows, ulong columns, long leadingDimension);

    [LibraryImport(Library, EntryPoint = "cublasLtMatrixLayoutDestroy")]
    public static partial int LayoutDestroy(nint layout);

    [LibraryImport(Library, EntryPoint = "cublasLtMatrixLayoutSetAttribute")]
    public static partial int LayoutSet(nint layout, LayoutAttribute attribute, void* value, nuint bytes);

    [LibraryImport(Library, EntryPoint = "cublasLtMatmulPreferenceCreate")]
    public static partial int PreferenceCreate(out nint preference);

    [LibraryImport(Library, EntryPoint = "cublasLtMatmulPreferenceDestroy")]
    public static partial int PreferenceDestroy(nint preference);

    [LibraryImport(Library, EntryPoint = "cublasLtMatmulPreferenceSetAttribute")]
    public static partial int PreferenceSet(nint preference, PreferenceAttribute attribute, void* value, nuint bytes);

    [LibraryImport(Library, EntryPoint = "cublasLtMatmulAlgoGetHeuristic")]
    public static partial int GetHeuristic(
        nint handle, nint product, nint a, nint b, nint c, nint d, nint preference, int wanted, Heuristic* results, out int found);

    [LibraryImport(Library, EntryPoint = "cublasLtMatmulAlgoCheck")]
    public static partial int Check(nint handle, nint product, nint a, nint b, nint c, nint d, void* algorithm, Heuristic* result);

    [LibraryImport(Library, EntryPoint = "cublasLtMatmul")]
    public static partial int Multiply(
        nint handle, nint product, float* alpha, nint a, nint layoutA, nint b, nint layoutB, float* beta, nint c, nint layoutC, nint d, nint layoutD,
        void* algorithm, nint workspace, nuint workspaceBytes, nint stream);
}
