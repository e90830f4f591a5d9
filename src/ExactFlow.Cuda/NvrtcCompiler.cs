using System.Runtime.InteropServices;
using System.Text;

namespace ExactFlow.Cuda;

/// <summary>NVRTC, found and loaded when kernels are first compiled (not when they come from the cache).</summary>
public sealed unsafe class NvrtcCompiler : IKernelCompiler
{
    private readonly string device;
    private string? version;

    /// <summary>Makes a compiler; nothing is loaded yet.</summary>
    /// <param name="device">The device that asks, for the message when there is no library.</param>
    public NvrtcCompiler(string device = "cuda") => this.device = device;

    /// <inheritdoc/>
    public string Version
    {
        get
        {
            if (version is null)
            {
                CudaLibrary.Nvrtc.Load(device);
                Check(NvrtcImports.Version(out int major, out int minor), "nvrtcVersion");
                version = $"NVRTC {major}.{minor}";
            }

            return version;
        }
    }

    /// <inheritdoc/>
    public byte[] Compile(string name, string source, IReadOnlyList<string> options)
    {
        ArgumentNullException.ThrowIfNull(options);
        _ = Version;
        Check(NvrtcImports.CreateProgram(out nint program, source, name, 0, 0, 0), "nvrtcCreateProgram", name);
        nint* texts = stackalloc nint[options.Count];
        try
        {
            for (int i = 0; i < options.Count; i++)
            {
                texts[i] = Marshal.StringToCoTaskMemUTF8(options[i]);
            }

            int result = NvrtcImports.CompileProgram(program, options.Count, texts);
            if (result != 0)
            {
                throw new CudaException(
                    "nvrtcCompileProgram", CudaResult.InvalidSource, $"{Version} could not compile {name} ({string.Join(' ', options)}):{Environment.NewLine}{Log(program)}");
            }

            Check(NvrtcImports.GetCubinSize(program, out nuint size), "nvrtcGetCUBINSize", name);
            var cubin = new byte[size];
            fixed (byte* bytes = cubin)
            {
                Check(NvrtcImports.GetCubin(program, bytes), "nvrtcGetCUBIN", name);
            }

            return cubin;
        }
        finally
        {
            for (int i = 0; i < options.Count; i++)
            {
                Marshal.FreeCoTaskMem(texts[i]);
            }

            _ = NvrtcImports.DestroyProgram(ref program);
        }
    }

    private static string Log(nint program)
    {
        if (NvrtcImports.GetLogSize(program, out nuint size) != 0 || size <= 1)
        {
            return "(the compiler left no log)";
        }

        var log = new byte[size];
        fixed (byte* bytes = log)
        {
            _ = NvrtcImports.GetLog(program, bytes);
        }

        return Encoding.UTF8.GetString(log).TrimEnd('\0', '\n');
    }

    private static void Check(int result, string call, string? subject = null)
    {
        if (result != 0)
        {
            string detail = subject is null ? "" : $" ({subject})";
            throw new CudaException(call, CudaResult.Unknown, $"{call}{detail} failed with {Marshal.PtrToStringUTF8(NvrtcImports.GetErrorString(result))}.");
        }
    }
}
