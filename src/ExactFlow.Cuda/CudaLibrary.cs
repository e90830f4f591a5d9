using System.Runtime.InteropServices;
using ExactFlow.Tensors;

namespace ExactFlow.Cuda;

/// <summary>Finds the driver library when a CUDA device is first asked for. Without one, nothing else in the project is affected.</summary>
public static class CudaLibrary
{
    /// <summary>Environment variable with the driver library's path, for installations in unusual places.</summary>
    public const string OverrideVariable = "EXACTFLOW_CUDA_LIBRARY";

    private static readonly string[] LinuxFolders = ["/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/lib/wsl/lib", "/usr/local/nvidia/lib64"];

    /// <summary>Loads the library.</summary>
    /// <param name="handle">Its handle for <see cref="NativeLibrary"/>.</param>
    /// <param name="where">The path or name it was loaded by; when none was found, the places that were looked at.</param>
    public static bool TryLoad(out nint handle, out string where)
    {
        if (Environment.GetEnvironmentVariable(OverrideVariable) is { Length: > 0 } chosen)
        {
            where = $"{chosen} (from {OverrideVariable})";
            return NativeLibrary.TryLoad(chosen, out handle);
        }

        string[] names = OperatingSystem.IsWindows() ? ["nvcuda.dll"] : ["libcuda.so.1", "libcuda.so"];
        string[] folders = OperatingSystem.IsWindows() ? [] : LinuxFolders;
        foreach (string name in names)
        {
            foreach (string candidate in folders.Select(folder => Path.Combine(folder, name)).Prepend(name))
            {
                if (NativeLibrary.TryLoad(candidate, out handle))
                {
                    where = candidate;
                    return true;
                }
            }
        }

        handle = 0;
        where = string.Join(", ", folders.Prepend("the system's library path"));
        return false;
    }

    /// <summary>Loads the library or says which file was looked for, where, and what to do.</summary>
    /// <param name="device">The device that was asked for, such as <c>cuda:0</c>.</param>
    /// <exception cref="InvalidInputException">There is no such library, or it cannot be loaded.</exception>
    public static nint Load(string device)
    {
        if (TryLoad(out nint handle, out string where))
        {
            return handle;
        }

        string name = OperatingSystem.IsWindows() ? "nvcuda.dll" : "libcuda.so.1";
        throw new InvalidInputException(
            $"Opening device {device} needs the NVIDIA driver library {name}, which could not be loaded from {where}: install the NVIDIA driver, set {OverrideVariable} to the library's path, or use --device cpu.");
    }
}
