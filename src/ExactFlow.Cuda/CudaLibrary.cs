using System.Runtime.InteropServices;
using ExactFlow.Tensors;

namespace ExactFlow.Cuda;

/// <summary>A library of NVIDIA's, found and loaded when first needed. Without them nothing but CUDA devices is affected.</summary>
public sealed class CudaLibrary
{
    private static readonly string[] DriverFolders = ["/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/lib/wsl/lib", "/usr/local/nvidia/lib64"];

    private readonly string importName;
    private readonly string what;
    private readonly string remedy;
    private readonly string[] fileNames;
    private readonly Func<IEnumerable<string>> folders;
    private readonly Lock loading = new();
    private nint handle;

    static CudaLibrary() => NativeLibrary.SetDllImportResolver(typeof(CudaLibrary).Assembly, static (name, _, _) =>
        name == Driver.importName ? Driver.handle : name == Nvrtc.importName ? Nvrtc.handle : name == CublasLt.importName ? CublasLt.handle : 0);

    private CudaLibrary(string importName, string what, string overrideVariable, string remedy, string[] fileNames, Func<IEnumerable<string>> folders)
    {
        this.importName = importName;
        this.what = what;
        this.remedy = remedy;
        this.fileNames = fileNames;
        this.folders = folders;
        OverrideVariable = overrideVariable;
    }

    /// <summary>The driver's library, installed with the driver.</summary>
    public static CudaLibrary Driver { get; } = new(
        CudaImports.Library,
        "the NVIDIA driver library",
        "EXACTFLOW_CUDA_LIBRARY",
        "install the NVIDIA driver",
        OperatingSystem.IsWindows() ? ["nvcuda.dll"] : ["libcuda.so.1", "libcuda.so"],
        () => OperatingSystem.IsWindows() ? [] : DriverFolders);

    /// <summary>The run-time compiler, part of the CUDA toolkit (12 or 13).</summary>
    public static CudaLibrary Nvrtc { get; } = new(
        NvrtcImports.Library,
        "the CUDA run-time compiler",
        "EXACTFLOW_NVRTC_LIBRARY",
        "install the CUDA toolkit (12 or 13)",
        OperatingSystem.IsWindows() ? ["nvrtc64_130_0.dll", "nvrtc64_120_0.dll"] : ["libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so"],
        ToolkitFolders);

    /// <summary>The matrix products, part of the CUDA toolkit (12 or 13).</summary>
    public static CudaLibrary CublasLt { get; } = new(
        CublasLtImports.Library,
        "the CUDA matrix products (cuBLASLt)",
        "EXACTFLOW_CUBLASLT_LIBRARY",
        "install the CUDA toolkit (12 or 13)",
        OperatingSystem.IsWindows() ? ["cublasLt64_13.dll", "cublasLt64_12.dll"] : ["libcublasLt.so.13", "libcublasLt.so.12", "libcublasLt.so"],
        ToolkitFolders);

    /// <summary>Environment variable with the library's path, for installations in unusual places.</summary>
    public string OverrideVariable { get; }

    /// <summary>Loads the library.</summary>
    /// <param name="where">The path or name it was loaded by; when none was found, the places that were looked at.</param>
    public bool TryLoad(out string where)
    {
        lock (loading)
        {
            if (Environment.GetEnvironmentVariable(OverrideVariable) is { Length: > 0 } chosen)
            {
                where = $"{chosen} (from {OverrideVariable})";
                return handle != 0 || NativeLibrary.TryLoad(chosen, out handle);
            }

            string[] places = [.. folders()];
            foreach (string name in fileNames)
            {
                foreach (string candidate in places.Select(folder => Path.Combine(folder, name)).Prepend(name))
                {
                    if (handle != 0 || NativeLibrary.TryLoad(candidate, out handle))
                    {
                        where = candidate;
                        return true;
                    }
                }
            }

            where = string.Join(", ", places.Prepend("the system's library path"));
            return false;
        }
    }

    /// <summary>Loads the library or says which file was looked for, where, and what to do.</summary>
    /// <param name="device">The device that was asked for, such as <c>cuda:0</c>.</param>
    /// <exception cref="InvalidInputException">There is no such library, or it cannot be loaded.</exception>
    public void Load(string device)
    {
        if (!TryLoad(out string where))
        {
            throw new InvalidInputException(
                $"Opening device {device} needs {what} {fileNames[0]}, which could not be loaded from {where}: {remedy}, set {OverrideVariable} to the library's path, or use --device cpu.");
        }
    }

    /// <summary>
    /// The library folders of CUDA toolkits: those the environment names, then the usual places, newest first, then what Python packages of NVIDIA brought.
    /// </summary>
    private static IEnumerable<string> ToolkitFolders()
    {
        string[] below = OperatingSystem.IsWindows() ? ["bin", Path.Combine("bin", "x64")] : ["lib64"];
        IEnumerable<string> named = new[] { "CUDA_HOME", "CUDA_PATH" }.Select(Environment.GetEnvironmentVariable).OfType<string>().Where(root => root.Length > 0);
        const string Parent = "/usr/local";
        IEnumerable<string> usual = OperatingSystem.IsWindows() || !Directory.Exists(Parent)
            ? []
            : Directory.EnumerateDirectories(Parent, "cuda*").OrderDescending(StringComparer.Ordinal);
        return named.Concat(usual).SelectMany(root => below.Select(folder => Path.Combine(root, folder))).Concat(PythonFolders());
    }

    /// <summary>Libraries in the site packages of the Python environments that are active or come first on the path: <c>nvidia/&lt;package&gt;/lib</c>.</summary>
    private static IEnumerable<string> PythonFolders()
    {
        if (OperatingSystem.IsWindows())
        {
            return [];
        }

        IEnumerable<string> active = new[] { "VIRTUAL_ENV", "CONDA_PREFIX" }.Select(Environment.GetEnvironmentVariable).OfType<string>();
        IEnumerable<string> onPath = (Environment.GetEnvironmentVariable("PATH") ?? "").Split(Path.PathSeparator)
            .Where(folder => folder.Length > 0 && File.Exists(Path.Combine(folder, "python3")))
            .Select(folder => Path.GetDirectoryName(folder.TrimEnd('/')) ?? "/");
        return active.Concat(onPath).Where(root => root.Length > 0).Distinct(StringComparer.Ordinal)
            .SelectMany(root => Below(Path.Combine(root, "lib"), "python3*"))
            .SelectMany(python => Below(Path.Combine(python, "site-packages", "nvidia"), "*"))
            .Select(package => Path.Combine(package, "lib"));

        static IEnumerable<string> Below(string folder, string pattern)
            => Directory.Exists(folder) ? Directory.EnumerateDirectories(folder, pattern).OrderDescending(StringComparer.Ordinal) : [];
    }
}
