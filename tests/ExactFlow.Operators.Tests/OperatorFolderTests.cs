using ExactFlow.Testing;

namespace ExactFlow.Operators.Tests;

/// <summary>Every operator folder is complete, and every one has cases.</summary>
public sealed class OperatorFolderTests
{
    /// <summary>Folders that hold no operator.</summary>
    private static readonly string[] Shared = ["Cases", "Common", "Decoding", "bin", "obj"];

    private static readonly string Root = Path.Combine(SourceTree.Root, "src", "ExactFlow.Operators");

    public static TheoryData<string> Folders
        => new(Directory.EnumerateDirectories(Root).Select(folder => Path.GetFileName(folder)).Except(Shared).Order(StringComparer.Ordinal));

    [Theory]
    [MemberData(nameof(Folders))]
    public void HasAllItsParts(string folder)
    {
        string[] parts = ["README.md", $"{folder}.cs", $"{folder}.Reference.cs", $"{folder}.Cpu.cs", $"{folder}.Cuda.cs", $"{folder}.Cases.cs"];
        Assert.Equal(parts, parts.Where(part => File.Exists(Path.Combine(Root, folder, part))));
    }

    [Theory]
    [MemberData(nameof(Folders))]
    public void HasCases(string folder) => Assert.Contains(folder, CaseTable.Operators);

    [Fact]
    public void CasesBelongToFolders() => Assert.All(CaseTable.Operators, name => Assert.True(Directory.Exists(Path.Combine(Root, name)), name));
}
