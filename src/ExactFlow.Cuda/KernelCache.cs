using System.Collections.Concurrent;
using System.Security.Cryptography;
using System.Text;
using ExactFlow.Tensors;

namespace ExactFlow.Cuda;

/// <summary>
/// Compiled kernels on disk. An entry's name is the SHA-256 of all that decides its contents (source, options, compiler version); a damaged one is noticed and
/// rebuilt (<see cref="HashedFile"/>).
/// </summary>
public sealed class KernelCache
{
    /// <summary>Environment variable with the folder to use instead of the user's cache folder.</summary>
    public const string FolderVariable = "EXACTFLOW_KERNEL_CACHE";

    /// <summary>One lock per entry for the whole process: of several devices that need a kernel at the same time one compiles it, the others read it.</summary>
    private static readonly ConcurrentDictionary<string, Lock> Compiling = new(StringComparer.Ordinal);

    /// <summary>Opens a cache; the folder is made at the first write.</summary>
    /// <param name="folder">The folder, or null for <see cref="FolderVariable"/> or else <c>exactflow/kernels</c> in the user's cache folder.</param>
    public KernelCache(string? folder = null) => Folder = folder ?? DefaultFolder();

    /// <summary>Where entries are.</summary>
    public string Folder { get; }

    /// <summary>Kernels compiled because no sound entry was there.</summary>
    public int Misses { get; private set; }

    /// <summary>The machine code of a source: from disk, or compiled and kept.</summary>
    /// <exception cref="InvalidInputException">The folder cannot be written.</exception>
    /// <exception cref="CudaException">The source does not compile.</exception>
    public byte[] Get(IKernelCompiler compiler, string name, string source, IReadOnlyList<string> options)
    {
        ArgumentNullException.ThrowIfNull(compiler);
        string path = Path.Combine(Folder, $"{Path.GetFileNameWithoutExtension(name)}-{Key(compiler.Version, source, options)}.cubin");
        if (HashedFile.TryRead(path) is { } cached)
        {
            return cached;
        }

        using Lock.Scope scope = Compiling.GetOrAdd(path, static _ => new Lock()).EnterScope();
        if (HashedFile.TryRead(path) is { } compiledMeanwhile)
        {
            return compiledMeanwhile;
        }

        byte[] code = compiler.Compile(name, source, options);
        Misses++;
        Write(path, code);
        return code;
    }

    /// <summary>Makes sure that kernels can be kept, with a small file that is deleted again; returns the number of files there.</summary>
    /// <exception cref="InvalidInputException">The folder cannot be written.</exception>
    public int RequireWritable()
    {
        string probe = Path.Combine(Folder, $"writable-{Guid.NewGuid():N}");
        Write(probe, []);
        File.Delete(probe);
        return Directory.GetFiles(Folder).Length;
    }

    private static string DefaultFolder()
    {
        if (Environment.GetEnvironmentVariable(FolderVariable) is { Length: > 0 } chosen)
        {
            return chosen;
        }

        string cache = Environment.GetEnvironmentVariable("XDG_CACHE_HOME") is { Length: > 0 } xdg
            ? xdg
            : OperatingSystem.IsWindows() ? Environment.GetFolderPath(Environment.SpecialFolder.LocalApplicationData)
            : Path.Combine(Environment.GetFolderPath(Environment.SpecialFolder.UserProfile), ".cache");
        return Path.Combine(cache, "exactflow", "kernels");
    }

    private static string Key(string version, string source, IReadOnlyList<string> options)
    {
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        foreach (string part in options.Prepend(source).Prepend(version))
        {
            hash.AppendData(Encoding.UTF8.GetBytes(part));
            hash.AppendData([0]);
        }

        return Convert.ToHexStringLower(hash.GetHashAndReset());
    }

    private void Write(string path, byte[] code)
    {
        try
        {
            HashedFile.Write(path, code);
        }
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException or InvalidInputException)
        {
            throw new InvalidInputException(
                $"Compiled kernels could not be kept in the folder '{Folder}' ({exception.Message.TrimEnd('.')}): make it writable, or set {FolderVariable} to a folder that is.", exception);
        }
    }
}
