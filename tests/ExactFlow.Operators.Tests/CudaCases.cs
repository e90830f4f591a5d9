using ExactFlow.Cuda;
using ExactFlow.Testing;

namespace ExactFlow.Operators.Tests;

/// <summary>Which operators run on a GPU, and the devices their cases run on. Opening a real GPU takes long, so a class of tests shares its devices.</summary>
public sealed class CudaCases : IDisposable
{
    /// <summary>
    /// Environment variable that leaves some cases: texts separated by commas, of which a case's name must contain one, and <c>small</c>, which leaves out what is there
    /// to be timed. For runs under a slow tool, such as a memory checker, split over processes.
    /// </summary>
    private const string Variable = "EXACTFLOW_CASES";

    private static readonly string[] Chosen = (Environment.GetEnvironmentVariable(Variable) ?? "").Split(',', StringSplitOptions.RemoveEmptyEntries);

    private readonly Dictionary<string, CudaDevice> open = new(StringComparer.Ordinal);

    /// <summary>Operators with a file <c>X.Cuda.cs</c>.</summary>
    public static IReadOnlySet<string> Operators { get; } = Directory
        .EnumerateFiles(Path.Combine(SourceTree.Root, "src", "ExactFlow.Operators"), "*.Cuda.cs", SearchOption.AllDirectories)
        .Select(file => new FileInfo(file))
        .Where(file => file.Name == $"{file.Directory!.Name}.Cuda.cs")
        .Select(file => file.Directory!.Name)
        .ToHashSet(StringComparer.Ordinal);

    /// <summary>Case and device. The emulated GPU leaves out what is there to be timed.</summary>
    public static IEnumerable<(string Name, string Device)> All
        => from name in CaseTable.Names
           let operatorCase = CaseTable.Get(name)
           where Operators.Contains(operatorCase.Operator) && IsChosen(operatorCase)
           from device in CudaTestDevices.Names
           where device == CudaTestDevices.Emulated ? !operatorCase.IsBenchmark : CudaTestDevices.HasReal
           select (name, device);

    /// <summary>Opens a device, once.</summary>
    public CudaDevice Device(string name)
    {
        if (!open.TryGetValue(name, out CudaDevice? device))
        {
            open.Add(name, device = CudaTestDevices.Open(name));
        }

        return device;
    }

    private static bool IsChosen(OperatorCase operatorCase)
    {
        string[] names = [.. Chosen.Where(text => text != "small")];
        return (names.Length == 0 || Array.Exists(names, text => operatorCase.ToString().Contains(text, StringComparison.Ordinal)))
            && !(operatorCase.IsBenchmark && Chosen.Contains("small"));
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        foreach (CudaDevice device in open.Values)
        {
            device.Dispose();
        }
    }
}
