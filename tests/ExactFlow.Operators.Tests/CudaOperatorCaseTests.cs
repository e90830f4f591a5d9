using ExactFlow.Cuda;
using ExactFlow.Tensors;
using ExactFlow.Testing;

namespace ExactFlow.Operators.Tests;

/// <summary>
/// Every line of the case tables on the emulated GPU and on a real one where there is one, against the float64 reference on the same (rounded) numbers.
/// A class for each number format, so that both run at the same time.
/// </summary>
public abstract class CudaOperatorCaseTests(CudaCases devices, DType format) : IClassFixture<CudaCases>
{
    /// <summary>Largest error in float32: fused multiply-add, other orders of sums and fast special functions cost a GPU more digits than some tables allow the CPU.</summary>
    private const double Float32Tolerance = 2e-5;

    public static TheoryData<string, string> Cases => Rows(_ => true);

    public static TheoryData<string, string> DifferentiableCases => Rows(CaseRun.HasGradient);

    public static TheoryData<string, string> CapturableCases => Rows(operatorCase => operatorCase.CanBeCaptured);

    [Theory]
    [MemberData(nameof(Cases))]
    public void Outputs_and_gradients_match_the_reference_in_every_run(string name, string deviceName)
    {
        OperatorCase operatorCase = CaseTable.Get(name);
        CudaDevice device = devices.Device(deviceName);
        double[][] inputs = CaseData.Inputs(operatorCase, format);
        IReadOnlyList<double[]> expected = operatorCase.Reference(inputs);
        double[][] outputGradients = OutputGradients(operatorCase, expected);
        IReadOnlyList<double[]?> expectedGradients = operatorCase.ReferenceGradient(inputs, outputGradients);

        var run = CaseRun.Execute(operatorCase, device, inputs, [outputGradients], format: format);

        AssertOutputs(operatorCase, expected, run);
        AssertGradients(operatorCase, expectedGradients, run);
        AssertSameBits(run, CaseRun.Execute(operatorCase, device, inputs, [outputGradients], format: format));
        Assert.Equal(0, device.Pool.RentedBlocks);
    }

    [Theory]
    [MemberData(nameof(DifferentiableCases))]
    public void Gradients_of_two_applications_add_up(string name, string deviceName)
    {
        OperatorCase operatorCase = CaseTable.Get(name);
        CudaDevice device = devices.Device(deviceName);
        double[][] inputs = CaseData.Inputs(operatorCase, format);
        IReadOnlyList<double[]> outputs = operatorCase.Reference(inputs);
        double[][] first = OutputGradients(operatorCase, outputs, set: 1);
        double[][] second = OutputGradients(operatorCase, outputs, set: 2);
        IReadOnlyList<double[]?> ofFirst = operatorCase.ReferenceGradient(inputs, first);
        IReadOnlyList<double[]?> ofSecond = operatorCase.ReferenceGradient(inputs, second);
        double[]?[] expected = [.. ofFirst.Zip(ofSecond, (a, b) => a?.Zip(b!, (x, y) => x + y).ToArray())];

        var run = CaseRun.Execute(operatorCase, device, inputs, [first, second], format: format);

        AssertGradients(operatorCase, expected, run);
        Assert.Equal(0, device.Pool.RentedBlocks);
    }

    [Theory]
    [MemberData(nameof(DifferentiableCases))]
    public void Each_gradient_is_right_when_it_is_the_only_one_wanted(string name, string deviceName)
    {
        OperatorCase operatorCase = CaseTable.Get(name);
        CudaDevice device = devices.Device(deviceName);
        double[][] inputs = CaseData.Inputs(operatorCase, format);
        double[][] outputGradients = OutputGradients(operatorCase, operatorCase.Reference(inputs));
        IReadOnlyList<double[]?> expected = operatorCase.ReferenceGradient(inputs, outputGradients);
        for (int input = 0; input < inputs.Length; input++)
        {
            if (operatorCase.Inputs[input].Differentiable)
            {
                AssertGradients(operatorCase, expected, CaseRun.Execute(operatorCase, device, inputs, [outputGradients], input, format), input);
            }
        }

        Assert.Equal(0, device.Pool.RentedBlocks);
    }

    [Theory]
    [MemberData(nameof(CapturableCases))]
    public void A_replayed_graph_computes_the_same_bits(string name, string deviceName)
    {
        OperatorCase operatorCase = CaseTable.Get(name);
        CudaDevice device = devices.Device(deviceName);
        double[][] inputs = CaseData.Inputs(operatorCase, format);
        double[][] outputGradients = OutputGradients(operatorCase, operatorCase.Reference(inputs));

        AssertSameBits(
            CaseRun.Execute(operatorCase, device, inputs, [outputGradients], format: format), CaseRun.Replay(operatorCase, device, inputs, outputGradients, format));
        Assert.Equal(0, device.Pool.RentedBlocks);
    }

    private static TheoryData<string, string> Rows(Func<OperatorCase, bool> filter)
    {
        var rows = new TheoryData<string, string>();
        foreach ((string name, string device) in CudaCases.All)
        {
            if (filter(CaseTable.Get(name)))
            {
                rows.Add(name, device);
            }
        }

        return rows;
    }

    private double[][] OutputGradients(OperatorCase operatorCase, IReadOnlyList<double[]> outputs, int set = 0)
    {
        double[][] gradients = CaseData.OutputGradients(operatorCase, outputs, set);
        return format == DType.BFloat16 ? [.. gradients.Select(values => Array.ConvertAll(values, BFloat16Bits.Round))] : gradients;
    }

    private void AssertOutputs(OperatorCase operatorCase, IReadOnlyList<double[]> expected, CaseRun run)
    {
        double tolerance = format == DType.BFloat16 ? operatorCase.BFloat16ForwardTolerance : Math.Max(Float32Tolerance, operatorCase.ForwardTolerance);
        Assert.Equal(expected.Count, run.Outputs.Count);
        for (int i = 0; i < expected.Count; i++)
        {
            double error = RelativeError.L2(run.Outputs[i], expected[i]);
            Assert.True(error <= tolerance, $"{operatorCase}: output {i} is off by {error:G3} in {format}, more than {tolerance:G3}.");
        }
    }

    private void AssertGradients(OperatorCase operatorCase, IReadOnlyList<double[]?> expected, CaseRun run, int? onlyInput = null)
    {
        double tolerance = format == DType.BFloat16 ? operatorCase.BFloat16GradientTolerance : Math.Max(Float32Tolerance, operatorCase.GradientTolerance);
        for (int i = 0; i < operatorCase.Inputs.Count; i++)
        {
            if (!operatorCase.Inputs[i].Differentiable || (onlyInput ?? i) != i)
            {
                Assert.Null(run.Gradients[i]);
                continue;
            }

            double error = RelativeError.L2(run.Gradients[i], expected[i]);
            Assert.True(
                error <= tolerance, $"{operatorCase}: the gradient of {operatorCase.Inputs[i].Name} is off by {error:G3} in {format}, more than {tolerance:G3}.");
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
