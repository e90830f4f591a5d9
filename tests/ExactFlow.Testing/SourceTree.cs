namespace ExactFlow.Testing;

/// <summary>The source tree that the running tests were built from.</summary>
public static class SourceTree
{
    /// <summary>The folder of the solution file, found upwards from the test's binaries.</summary>
    /// <exception cref="DirectoryNotFoundException">The tests run from a copy outside the source tree.</exception>
    public static string Root { get; } = Find(AppContext.BaseDirectory);

    private static string Find(string start)
    {
        for (DirectoryInfo? folder = new(start); folder is not null; folder = folder.Parent)
        {
            if (File.Exists(Path.Combine(folder.FullName, "ExactFlow.slnx")))
            {
                return folder.FullName;
            }
        }

        throw new DirectoryNotFoundException($"No folder above {start} holds ExactFlow.slnx: run the tests from inside the source tree.");
    }
}
