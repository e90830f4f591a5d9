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

    [Theory]
    [MemberData(nameof(NamesAndChunks))]
    public void Float64Chunkwise(string name, int chunkLength)
    {
        using var device = new CpuDevice(2) { PoisonFreshMemory = true };
        ReferenceVectors vectors = ReferenceVectors.Load(name);

        DeltaRuleSolution solution = vectors.Problem(chunkLength).Solve(device, DeltaRuleForm.Chunkwise, DeltaRulePrecision.Float64);

        Errors.AssertClose(tensor => vectors[tensor], solution, forward: 1e-10, gradient: 1e-10);
        Assert.Equal(0, device.Pool.RentedBlocks);
    }

    [Theory]
    [MemberData(nameof(NamesAndChunks))]
    public void Float32Chunkwise(string name, int chunkLength)
    {
        using var device = new CpuDevice(2) { PoisonFreshMemory = true };
        ReferenceVectors vectors = ReferenceVectors.Load(name);

        DeltaRuleSolution solution = vectors.Problem(chunkLength).Solve(device, DeltaRuleForm.Chunkwise, DeltaRulePrecision.Float32);

        Errors.AssertClose(tensor => vectors[tensor], solution, forward: 2e-5, gradient: 1e-4);
        Assert.Equal(0, device.Pool.RentedBlocks);
    }

    [Theory]
    [MemberData(nameof(ReferenceVectors.Names), MemberType = typeof(ReferenceVectors))]
    public void Recurrent(string name)
    {
        using var device = new CpuDevice(2) { PoisonFreshMemory = true };
        ReferenceVectors vectors = ReferenceVectors.Load(name);

        Errors.AssertClose(tensor => vectors[tensor], vectors.Problem().Solve(device, DeltaRuleForm.Recurrent, DeltaRulePrecision.Float64), forward: 1e-10, gradient: 1e-10);
        Errors.AssertClose(tensor => vectors[tensor], vectors.Problem().Solve(device, DeltaRuleForm.Recurrent, DeltaRulePrecision.Float32), forward: 2e-5, gradient: 1e-4);
        Errors.AssertClose(tensor => vectors[tensor], vectors.Problem().Solve(device, DeltaRuleForm.Auto, DeltaRulePrecision.Float32), forward: 2e-5, gradient: 1e-4);
    }

    public static TheoryData<string, int> NamesAndChunks()
    {
        var data = new TheoryData<string, int>();
        foreach (string name in ReferenceVectors.Names)
        {
            foreach (int chunkLength in (int[])[1, 7, 16, 32, 64, 128])
            {
                data.Add(name, chunkLength);
            }
        }

        return data;
    }
}
