using System.Globalization;
using ExactFlow.Tensors;

namespace ExactFlow.Cuda;

/// <summary>Opens the device that a name stands for.</summary>
public static class DeviceFactory
{
    /// <summary>Opens <c>cpu</c>, <c>cuda</c> (the first GPU) or <c>cuda:N</c>.</summary>
    /// <param name="name">The name, as given to <c>--device</c>.</param>
    /// <param name="threads">Threads of the CPU device, or 0 for one per logical processor.</param>
    /// <exception cref="InvalidInputException">No such device: unknown name, no driver, or no such GPU.</exception>
    public static Device Parse(string name, int threads = 0)
    {
        ArgumentNullException.ThrowIfNull(name);
        if (name == "cpu")
        {
            return new CpuDevice(threads);
        }

        int ordinal = 0;
        bool isCuda = name == "cuda" || (name.StartsWith("cuda:", StringComparison.Ordinal) && int.TryParse(name.AsSpan(5), NumberStyles.None, CultureInfo.InvariantCulture, out ordinal));
        return isCuda
            ? new CudaDevice(new LibcudaDriver($"cuda:{ordinal}"), ordinal)
            : throw new InvalidInputException($"\"{name}\" is not a device: choose cpu, cuda, or cuda:N for the N-th GPU, counted from 0.");
    }
}
