using ExactFlow.Tensors;
using ExactFlow.Testing;

namespace ExactFlow.Operators.Tests;

/// <summary>
/// Operators that write a value of the forward pass again while they go back: the bits are those of the operators that keep it, on every device and in every format.
/// </summary>
public sealed class ThenProjectTests
{
    public static TheoryData<string, DType> Devices => [("cpu", DType.Float32), .. CudaTestDevices.Names.SelectMany(name => new[] { (name, DType.Float32), (name, DType.BFloat16) })];

    [Theory]
    [MemberData(nameof(Devices))]
    public void SwiGluGivesTheBitsOfSeparateOperators(string name, DType format)
        => AssertSameBits("SwiGlu: projected: ", t => [Linear.Apply(SwiGlu.Apply(t[0], t[1]), t[2])], name, format);

    [Theory]
    [MemberData(nameof(Devices))]
    public void RmsNormGivesTheBitsOfSeparateOperators(string name, DType format)
        => AssertSameBits("RmsNorm: projected, ", Separate, name, format);

    [Theory]
    [MemberData(nameof(Devices))]
    public void UnusedProjectionsPassTheSumsGradientOn(string name, DType format)
    {
        using Device device = name == "cpu" ? new CpuDevice(1) : CudaTestDevices.Open(name);
        using Tensor x = device.Persistent([3, 8], format).RequireGrad();
        using Tensor residual = device.Persistent([3, 8], format).RequireGrad();
        using Tensor weight = device.Persistent([8]).RequireGrad();
        using Tensor matrix = device.Persistent([16, 8], format);
        using Tensor gradient = device.Persistent([3, 8], format);
        foreach (Tensor tensor in (Tensor[])[x, residual, weight, matrix, gradient])
        {
            tensor.Zero();
        }

        using (device.BeginStep())
        {
            RmsNorm.ApplyThenProject(x, residual, weight, [matrix]).Sum.Backward(gradient);
        }

        Assert.NotNull(x.Grad);
        Assert.NotNull(residual.Grad);
        Assert.Null(weight.Grad);
    }

    private static IReadOnlyList<Tensor> Separate(IReadOnlyList<Tensor> t)
    {
        // A norm alone has a vector for its second input.
        if (t[1].Shape.Rank == 1)
        {
            Tensor alone = RmsNorm.Apply(t[0], t[1]);
            return Linear.ApplyAll(alone, [.. t.Skip(2)]);
        }

        (Tensor sum, Tensor normalized) = RmsNorm.ApplyAfterAdd(t[0], t[1], t[2]);
        return [sum, .. Linear.ApplyAll(normalized, [.. t.Skip(3)])];
    }

    private static void AssertSameBits(string prefix, Func<IReadOnlyList<Tensor>, IReadOnlyList<Tensor>> separate, string name, DType format)
    {
        using Device device = name == "cpu" ? new CpuDevice(2) : CudaTestDevices.Open(name);
        string[] cases = [.. CaseTable.Names.Where(one => one.StartsWith(prefix, StringComparison.Ordinal))];
        Assert.NotEmpty(cases);
        foreach (string one in cases)
        {
            OperatorCase fused = CaseTable.Get(one);
            double[][] inputs = CaseData.Inputs(fused, format);
            double[][] gradients = CaseData.OutputGradients(fused, fused.Reference(inputs));
            var expected = CaseRun.Execute(fused with { Run = separate }, device, inputs, [gradients], format: format);
            var actual = CaseRun.Execute(fused, device, inputs, [gradients], format: format);
            Assert.Equal(expected.Outputs, actual.Outputs);
            Assert.Equal(expected.Gradients, actual.Gradients);
        }

        Assert.Equal(0, device.Pool.RentedBlocks);
    }
}
