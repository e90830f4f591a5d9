using ExactFlow.Testing;

namespace ExactFlow.Operators.Tests;

/// <summary>The operator cases at every vector width narrower than this process's own, and with the runtime's switches off.</summary>
public sealed class SimdLevelTests
{
    public static TheoryData<int> Settings => [.. Enumerable.Range(0, SimdSetting.ForThisMachine.Count)];

    [Theory]
    [MemberData(nameof(Settings))]
    public void CasesPassAtEveryLevelInAChild(int setting)
    {
        int tests = SimdChild.Run(
            typeof(OperatorCaseTests).Assembly,
            SimdSetting.ForThisMachine[setting],
            typeof(SimdReportTests).FullName!,
            typeof(OperatorCaseTests).FullName!,
            typeof(ShortConvolutionTests).FullName!);

        Assert.True(tests > CaseTable.SmallCount, $"Only {tests} tests ran with {SimdSetting.ForThisMachine[setting]}.");
    }
}

/// <summary>Tells the parent of a child process which level it got.</summary>
public sealed class SimdReportTests
{
    [Fact]
    public void ReportsTheLevel() => SimdChild.ReportLevel();
}
