using ExactFlow.Testing;

namespace ExactFlow.Operators.Tests.DeltaRule;

/// <summary>The reference vectors and all forms at every vector width narrower than this process's own, each in a process of its own.</summary>
public sealed class SimdLevelTests
{
    public static TheoryData<int> Settings => [.. Enumerable.Range(0, SimdSetting.ForThisMachine.Count)];

    [Theory]
    [MemberData(nameof(Settings))]
    public void PassesAtEveryLevelInAChild(int setting)
        => SimdChild.Run(
            typeof(SimdLevelTests).Assembly,
            SimdSetting.ForThisMachine[setting],
            typeof(SimdReportTests).FullName!,
            typeof(ReferenceVectorTests).FullName!,
            typeof(FormTests).FullName!);
}
