using ExactFlow.Tensors;

namespace ExactFlow.Training.Experiments;

/// <summary>Which device each worker of a study opens.</summary>
public static class StudyDevices
{
    /// <summary>One opener per worker; workers are spread over the devices in turn.</summary>
    /// <param name="names">Devices separated by commas: <c>cpu</c>, <c>cuda</c>, <c>cuda:0,cuda:1</c>.</param>
    /// <param name="parallel">Workers in all, or 0 for one per device.</param>
    /// <param name="threads">Threads of the CPU, which workers on the CPU share evenly; 0 for one per logical processor.</param>
    /// <param name="open">Opens a device by its name with a number of threads.</param>
    /// <exception cref="InvalidInputException">A name is given twice or empty.</exception>
    public static IReadOnlyList<Func<Device>> Plan(string names, int parallel, int threads, Func<string, int, Device> open)
    {
        ArgumentNullException.ThrowIfNull(names);
        ArgumentNullException.ThrowIfNull(open);
        string[] devices = names.Split(',', StringSplitOptions.TrimEntries);
        if (devices.Contains(string.Empty) || devices.Distinct(StringComparer.Ordinal).Count() < devices.Length)
        {
            throw new InvalidInputException($"--device takes devices separated by commas, none of them twice, but it is '{names}': several runs at once on one device are asked for by --parallel.");
        }

        int workers = parallel == 0 ? devices.Length : parallel;
        int all = threads == 0 ? Environment.ProcessorCount : threads;
        int share = Math.Max(1, all / Math.Max(1, Enumerable.Range(0, workers).Count(index => devices[index % devices.Length] == "cpu")));
        return [.. Enumerable.Range(0, workers).Select(index => (Func<Device>)(() => open(devices[index % devices.Length], share)))];
    }
}
