using ExactFlow.Tensors.Simd;
using ExactFlow.Testing;

namespace ExactFlow.Operators.Tests.DeltaRule;

/// <summary>The reference vectors and all forms at every vector width narrower than this process's own, each in a process of its own.</summary>
public sealed class SimdLevelTests
{
    public static TheoryData<string, Type> NarrowerLevels()
    {
        var data = new TheoryData<string, Type>();
        foreach (SimdLevel level in Enum.GetValues<SimdLevel>().Where(level => level < Simd.Available))
        {
            data.Add(Simd.Name(level), typeof(ReferenceVectorTests));
            data.Add(Simd.Name(level), typeof(FormTests));
        }

        return data;
    }

    [Theory]
    [MemberData(nameof(NarrowerLevels))]
    public void PassesAt(string level, Type tests)
    {
        (int exitCode, string output) = ChildProcess.RunTests(tests, (Simd.EnvironmentVariable, level));

        Assert.True(exitCode == 0, output);
        Assert.Contains("Failed: 0", output, StringComparison.Ordinal);
    }
}
