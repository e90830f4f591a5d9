using ExactFlow.Tensors;

namespace ExactFlow.Operators.Tests.DeltaRule;

/// <summary>Every form and precision against the vectors of an independent implementation: forward and all gradients.</summary>
public sealed class ReferenceVectorTests
{
    [Theory]
    [MemberData(nameof(ReferenceVectors.Names), MemberType = typeof(ReferenceVectors))]
    public void Float64ReferenceForm(string name)
    {
        using var device = new CpuDevice(2);
        ReferenceVectors vectors = ReferenceVectors.Load(name);

        DeltaRuleSolution solution = vectors.Problem().Solve(device, DeltaRuleForm.Reference, DeltaRulePrecision.Float64);

        Errors.AssertClose(tensor => vectors[tensor], solution, forward: 1e-10, gradient: 1e-10);
    }
}
