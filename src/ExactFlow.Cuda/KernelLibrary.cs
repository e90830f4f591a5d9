using System.Globalization;
using System.Reflection;
using System.Text;

namespace ExactFlow.Cuda;

/// <summary>
/// The kernels of one device: <c>.cu</c> sources embedded in assemblies, compiled for the device's own architecture at first use and kept on disk.
/// A source may name others with <c>#include "file.cuh"</c>; they come from the same assembly.
/// </summary>
public sealed class KernelLibrary : IDisposable
{
    private readonly CudaDevice device;
    private readonly IKernelCompiler compiler;
    private readonly KernelCache cache;
    private readonly Dictionary<string, CudaModule> modules = new(StringComparer.Ordinal);
    private readonly Dictionary<(string Source, string Kernel), (CudaFunction Function, int SharedBytes)> functions = [];

    /// <summary>Makes a library; nothing is compiled yet.</summary>
    public KernelLibrary(CudaDevice device, IKernelCompiler compiler, KernelCache cache)
    {
        this.device = device;
        this.compiler = compiler;
        this.cache = cache;
    }

    /// <summary>Where compiled kernels are kept.</summary>
    internal string CacheFolder => cache.Folder;

    /// <summary>A kernel.</summary>
    /// <param name="assembly">The assembly that embeds the source.</param>
    /// <param name="source">The source's file name, such as <c>delta_rule.cu</c>.</param>
    /// <param name="kernel">The kernel's name (<c>extern "C"</c>).</param>
    /// <param name="sharedBytes">Dynamic shared memory that the next launch asks for; a kernel may be asked for again with more.</param>
    /// <param name="sharesMultiprocessors">As of <see cref="CudaModule.Function"/>; the same whenever a kernel is asked for.</param>
    public CudaFunction Function(Assembly assembly, string source, string kernel, int sharedBytes = 0, bool sharesMultiprocessors = false)
    {
        if (functions.TryGetValue((source, kernel), out (CudaFunction Function, int SharedBytes) known) && known.SharedBytes >= sharedBytes)
        {
            return known.Function;
        }

        if (!modules.TryGetValue(source, out CudaModule? module))
        {
            byte[] code = cache.Get(compiler, source, Source(assembly, source), Options());
            modules.Add(source, module = new CudaModule(device, code));
        }

        CudaFunction function = module.Function(kernel, sharedBytes, sharesMultiprocessors);
        functions[(source, kernel)] = (function, sharedBytes);
        return function;
    }

    /// <summary>Unloads everything.</summary>
    public void Dispose()
    {
        functions.Clear();
        foreach (CudaModule module in modules.Values)
        {
            module.Dispose();
        }

        modules.Clear();
    }

    /// <summary>The text of an embedded source with its includes put in place, each once, and marked so that messages name the file and line they are in.</summary>
    public static string Source(Assembly assembly, string name)
    {
        ArgumentNullException.ThrowIfNull(assembly);
        return Expand(assembly, name, new HashSet<string>(StringComparer.Ordinal));
    }

    private static string Expand(Assembly assembly, string name, HashSet<string> included)
    {
        if (!included.Add(name))
        {
            return "";
        }

        using Stream stream = assembly.GetManifestResourceStream(name)
            ?? throw new ArgumentException($"The kernel source {name} is not embedded in {assembly.GetName().Name}.", nameof(name));
        using var reader = new StreamReader(stream);
        var text = new StringBuilder();
        const string Include = "#include \"";
        text.Append(CultureInfo.InvariantCulture, $"#line 1 \"{name}\"\n");
        for (int number = 1; reader.ReadLine() is { } line; number++)
        {
            if (line.StartsWith(Include, StringComparison.Ordinal))
            {
                text.Append(Expand(assembly, line[Include.Length..].TrimEnd('"', ' '), included));
                text.Append(CultureInfo.InvariantCulture, $"#line {number + 1} \"{name}\"\n");
            }
            else
            {
                text.Append(line).Append('\n');
            }
        }

        return text.ToString();
    }

    /// <summary>Machine code for exactly this GPU; from compute capability 9.0 on with the instructions that exist on that architecture only (wgmma).</summary>
    private string[] Options()
    {
        string suffix = device.ComputeCapability.Major >= 9 ? "a" : "";
        return [$"--gpu-architecture=sm_{device.ComputeCapability.Major}{device.ComputeCapability.Minor}{suffix}", "--std=c++17", "--extra-device-vectorization"];
    }
}
