using System.Globalization;
using System.Text.RegularExpressions;
using ExactFlow.Tensors.Simd;
using ExactFlow.Testing;

namespace ExactFlow.Operators.Tests;

/// <summary>The operator cases at every vector width narrower than this process's own.</summary>
public sealed partial class SimdLevelTests
{
    private const string ChildMark = "EXACTFLOW_TEST_CHILD";

    public static TheoryData<string> NarrowerLevels
        => new(Enum.GetValues<SimdLevel>().Where(level => level < Simd.Available).Select(Simd.Name));

    /// <summary>Whether this process is one that <see cref="PassesAt"/> started.</summary>
    internal static bool IsChild => Environment.GetEnvironmentVariable(ChildMark) is not null;

    [Theory]
    [MemberData(nameof(NarrowerLevels))]
    public void PassesAt(string level)
    {
        (int exitCode, string output) = ChildProcess.RunTests(typeof(OperatorCaseTests), (Simd.EnvironmentVariable, level), (ChildMark, "1"));

        Assert.True(exitCode == 0, output);
        Match total = Total().Match(output);
        Assert.True(total.Success, output);
        Assert.True(int.Parse(total.Groups[1].Value, CultureInfo.InvariantCulture) > CaseTable.SmallCount, output);
    }

    [GeneratedRegex(@"Total: (\d+)")]
    private static partial Regex Total();
}
