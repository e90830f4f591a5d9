using System.Runtime.InteropServices;

namespace ExactFlow.Cuda;

/// <summary>The import table of NVRTC, the run-time compiler of CUDA.</summary>
internal static unsafe partial class NvrtcImports
{
    /// <summary>The name the resolver of <see cref="CudaLibrary"/> answers to; no file is called so.</summary>
    public const string Library = "cuda-nvrtc";

    [LibraryImport(Library, EntryPoint = "nvrtcVersion")]
    public static partial int Version(out int major, out int minor);

    [LibraryImport(Library, EntryPoint = "nvrtcGetErrorString")]
    public static partial nint GetErrorString(int result);

    [LibraryImport(Library, EntryPoint = "nvrtcCreateProgram", StringMarshalling = StringMarshalling.Utf8)]
    public static partial int CreateProgram(out nint program, string source, string name, int headers, nint headerSources, nint headerNames);

    [LibraryImport(Library, EntryPoint = "nvrtcCompileProgram")]
    public static partial int CompileProgram(nint program, int options, nint* optionTexts);

    [LibraryImport(Library, EntryPoint = "nvrtcGetCUBINSize")]
    public static partial int GetCubinSize(nint program, out nuint size);

    [LibraryImport(Library, EntryPoint = "nvrtcGetCUBIN")]
    public static partial int GetCubin(nint program, byte* cubin);

    [LibraryImport(Library, EntryPoint = "nvrtcGetProgramLogSize")]
    public static partial int GetLogSize(nint program, out nuint size);

    [LibraryImport(Library, EntryPoint = "nvrtcGetProgramLog")]
    public static partial int GetLog(nint program, byte* log);

    [LibraryImport(Library, EntryPoint = "nvrtcDestroyProgram")]
    public static partial int DestroyProgram(ref nint program);
}
