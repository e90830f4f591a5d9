using Xunit;

namespace ExactFlow.Testing;

/// <summary>
/// Real data that is too large for the repository. It is looked for in the folder that the environment variable EXACTFLOW_DATA names, then in
/// <c>shared/data</c> beside any ancestor of the tests' folder; a test that needs data which is not there is skipped and says what it lacks.
/// </summary>
public static class SharedData
{
    /// <summary>The path of a file or folder of the shared data, or null.</summary>
    /// <param name="relativePath">Such as <c>mnist</c> or <c>books/train-00.txt</c>.</param>
    public static string? TryFind(string relativePath)
    {
        IEnumerable<string> roots = Environment.GetEnvironmentVariable("EXACTFLOW_DATA") is { Length: > 0 } named ? [named] : Ancestors().Select(folder => Path.Combine(folder, "shared", "data"));
        return roots.Select(root => Path.Combine(root, relativePath)).FirstOrDefault(Path.Exists);
    }

    /// <summary>The path of a file or folder of the shared data; skips the running test if it is not there.</summary>
    /// <param name="relativePath">Such as <c>mnist</c> or <c>books/train-00.txt</c>.</param>
    public static string Find(string relativePath)
    {
        string? path = TryFind(relativePath);
        if (path is null)
        {
            Assert.Skip($"Needs '{relativePath}' of the shared data, found neither under EXACTFLOW_DATA nor in a folder shared/data beside an ancestor of '{AppContext.BaseDirectory}'.");
        }

        return path;
    }

    private static IEnumerable<string> Ancestors()
    {
        for (DirectoryInfo? folder = new(AppContext.BaseDirectory); folder is not null; folder = folder.Parent)
        {
            yield return folder.FullName;
        }
    }
}
