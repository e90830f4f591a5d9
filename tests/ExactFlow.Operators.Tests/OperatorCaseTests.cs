using ExactFlow.Tensors;
using ExactFlow.Tensors.Autograd;
using ExactFlow.Testing;

namespace ExactFlow.Operators.Tests;

/// <summary>Every line of every case table, on the CPU. <see cref="SimdLevelTests"/> runs this class again at each narrower vector width.</summary>
public sealed class OperatorCaseTests
{
    /// <summary>Managed bytes that one forward and backward call may allocate: tensor objects, gradients and a closure, whatever the sizes.</summary>
    private const long ManagedBytesPerCall = 4096;

    public static TheoryData<string> AllCases => SimdChild.IsChild ? CaseTable.Small : CaseTable.All;

    public static TheoryData<string> SmallCases => CaseTable.Small;

    public static TheoryData<string> SteadyCases => CaseTable.Steady;

    [Theory]
    [MemberData(nameof(AllCases))]
    public void OutputsAndGradientsMatchTheReference(string name)
    {
        OperatorCase operatorCase = CaseTable.Get(name);
        double[][] inputs = CaseData.Inputs(operatorCase);
        IReadOnlyList<double[]> expected = operatorCase.Reference(inputs);
        double[][] outputGradients = CaseData.OutputGradients(operatorCase, expected);
        IReadOnlyList<double[]?> expectedGradients = operatorCase.ReferenceGradient(inputs, outputGradients);
        using var device = new CpuDevice(2);

        var run = CaseRun.Execute(operatorCase, device, inputs, [outputGradients]);

        AssertOutputs(operatorCase, expected, run);
        AssertGradients(operatorCase, expectedGradients, run);
        Assert.Equal(0, device.Pool.RentedBlocks);
    }

    [Theory]
    [MemberData(nameof(SmallCases))]
    public void GradientsOfTwoApplicationsAddUp(string name)
    {
        OperatorCase operatorCase = CaseTable.Get(name);
        double[][] inputs = CaseData.Inputs(operatorCase);
        IReadOnlyList<double[]> outputs = operatorCase.Reference(inputs);
        double[][] first = CaseData.OutputGradients(operatorCase, outputs, set: 1);
        double[][] second = CaseData.OutputGradients(operatorCase, outputs, set: 2);
        IReadOnlyList<double[]?> ofFirst = operatorCase.ReferenceGradient(inputs, first);
        IReadOnlyList<double[]?> ofSecond = operatorCase.ReferenceGradient(inputs, second);
        double[]?[] expected = [.. ofFirst.Zip(ofSecond, (a, b) => a?.Zip(b!, (x, y) => x + y).ToArray())];
        using var device = new CpuDevice(2);

        var run = CaseRun.Execute(operatorCase, device, inputs, [first, second]);

        AssertGradients(operatorCase, expected, run);
        Assert.Equal(0, device.Pool.RentedBlocks);
    }

    [Theory]
    [MemberData(nameof(SmallCases))]
    public void BitsDependNeitherOnThreadsNorOnTheRun(string name)
    {
        OperatorCase operatorCase = CaseTable.Get(name);
        double[][] inputs = CaseData.Inputs(operatorCase);
        double[][] gradients = CaseData.OutputGradients(operatorCase, operatorCase.Reference(inputs));
        using var one = new CpuDevice(1);
        using var two = new CpuDevice(2);
        using var three = new CpuDevice(3);

        var alone = CaseRun.Execute(operatorCase, one, inputs, [gradients]);

        AssertSameBits(alone, CaseRun.Execute(operatorCase, two, inputs, [gradients]));
        AssertSameBits(alone, CaseRun.Execute(operatorCase, two, inputs, [gradients]));
        AssertSameBits(alone, CaseRun.Execute(operatorCase, three, inputs, [gradients]));
        Assert.Equal(0, one.Pool.RentedBlocks + two.Pool.RentedBlocks + three.Pool.RentedBlocks);
    }

    [Theory]
    [MemberData(nameof(SmallCases))]
    public void EachGradientIsTheSameWhenItIsTheOnlyOneWanted(string name)
    {
        OperatorCase operatorCase = CaseTable.Get(name);
        double[][] inputs = CaseData.Inputs(operatorCase);
        double[][] outputGradients = CaseData.OutputGradients(operatorCase, operatorCase.Reference(inputs));
        IReadOnlyList<double[]?> expected = operatorCase.ReferenceGradient(inputs, outputGradients);
        using var device = new CpuDevice(2);
        for (int input = 0; input < inputs.Length; input++)
        {
            if (operatorCase.Inputs[input].Differentiable)
            {
                var run = CaseRun.Execute(operatorCase, device, inputs, [outputGradients], onlyInput: input);
                AssertGradients(operatorCase, expected, run, input);
            }
        }

        Assert.Equal(0, device.Pool.RentedBlocks);
    }

    [Theory]
    [MemberData(nameof(SteadyCases))]
    public void ASteadyCallAllocatesNoNativeAndLittleManagedMemory(string name)
    {
        OperatorCase operatorCase = CaseTable.Get(name);
        double[][] values = CaseData.Inputs(operatorCase);
        double[][] gradients = CaseData.OutputGradients(operatorCase, operatorCase.Reference(values));

        // One thread: what the call allocates is then what this thread allocates.
        using var device = new CpuDevice(1);
        Tensor[] inputs = CaseRun.MakeInputs(operatorCase, device, values);
        Tensor[] seeds = CaseRun.MakeSeeds(operatorCase, device, inputs, gradients);
        bool differentiate = CaseRun.HasGradient(operatorCase);
        for (int i = 0; i < inputs.Length; i++)
        {
            if (operatorCase.Inputs[i].Differentiable)
            {
                inputs[i].RequireGrad();
            }
        }

        const int Calls = 8;
        Call();
        Call();
        long native = device.Pool.SystemAllocations;
        long managed = GC.GetAllocatedBytesForCurrentThread();
        for (int i = 0; i < Calls; i++)
        {
            Call();
        }

        managed = (GC.GetAllocatedBytesForCurrentThread() - managed) / Calls;
        Assert.Equal(native, device.Pool.SystemAllocations);
        Assert.True(managed <= ManagedBytesPerCall, $"{operatorCase} allocates {managed} managed bytes per call, more than {ManagedBytesPerCall}.");

        void Call()
        {
            using Step step = device.BeginStep(recordGradients: differentiate);
            IReadOnlyList<Tensor> outputs = operatorCase.Run(inputs);
            if (differentiate)
            {
                CaseRun.Backward(outputs, seeds);
                foreach (Tensor input in inputs)
                {
                    input.ClearGrad();
                }
            }
        }
    }

    [Theory]
    [MemberData(nameof(SmallCases))]
    public void TheReferenceGradientAgreesWithDifferencesOfTheReference(string name)
        => Assert.Empty(FiniteDifferences.Disagreements(CaseTable.Get(name)));

    private static void AssertOutputs(OperatorCase operatorCase, IReadOnlyList<double[]> expected, CaseRun run)
    {
        Assert.Equal(expected.Count, run.Outputs.Count);
        for (int i = 0; i < expected.Count; i++)
        {
            double error = RelativeError.L2(run.Outputs[i], expected[i]);
            Assert.True(error <= operatorCase.ForwardTolerance, $"{operatorCase}: output {i} is off by {error:G3}, more than {operatorCase.ForwardTolerance:G3}.");
        }
    }

    private static void AssertGradients(OperatorCase operatorCase, IReadOnlyList<double[]?> expected, CaseRun run, int? onlyInput = null)
    {
        for (int i = 0; i < operatorCase.Inputs.Count; i++)
        {
            if (!operatorCase.Inputs[i].Differentiable || (onlyInput ?? i) != i)
            {
                Assert.Null(run.Gradients[i]);
                continue;
            }

            double error = RelativeError.L2(run.Gradients[i], expected[i]);
            Assert.True(
                error <= operatorCase.GradientTolerance,
                $"{operatorCase}: the gradient of {operatorCase.Inputs[i].Name} is off by {error:G3}, more than {operatorCase.GradientTolerance:G3}.");
        }
    }

    private static void AssertSameBits(CaseRun expected, CaseRun actual)
    {
        for (int i = 0; i < expected.Outputs.Count; i++)
        {
            Assert.Equal(Bits(expected.Outputs[i]), Bits(actual.Outputs[i]));
        }

        for (int i = 0; i < expected.Gradients.Count; i++)
        {
            Assert.Equal(Bits(expected.Gradients[i]), Bits(actual.Gradients[i]));
        }
    }

    private static int[] Bits(float[]? values) => values is null ? [] : Array.ConvertAll(values, BitConverter.SingleToInt32Bits);
}
