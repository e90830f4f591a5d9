using ExactFlow.Cuda;
using ExactFlow.Tensors;
using ExactFlow.Testing;
using ExactFlow.Testing.Emulation;

namespace ExactFlow.Operators.Tests;

/// <summary>
/// Every driver call of every operator, forward and backward, captured and replayed, fails once: the error names the call, memory goes back to the pool, and the
/// same device then computes the right bits.
/// </summary>
public sealed class CudaFaultTests
{
    public static TheoryData<string> OperatorsOnGpus => new(CudaCases.Operators.Order(StringComparer.Ordinal));

    [Theory]
    [MemberData(nameof(OperatorsOnGpus))]
    public void Every_failing_call_is_a_named_error_and_the_device_stays_usable(string name)
    {
        OperatorCase operatorCase = SmallestCase(name);
        double[][] inputs = CaseData.Inputs(operatorCase, DType.BFloat16);
        double[][] gradients = [.. CaseData.OutputGradients(operatorCase, operatorCase.Reference(inputs)).Select(values => Array.ConvertAll(values, BFloat16Bits.Round))];
        var healthy = new EmulatedCudaDriver();
        using CudaDevice untouched = CudaTestDevices.OpenEmulated(healthy);
        int first = healthy.Calls.Count;
        CaseRun expected = Run(untouched);
        for (int call = first; call < healthy.Calls.Count; call++)
        {
            var driver = new EmulatedCudaDriver();
            using (CudaDevice device = CudaTestDevices.OpenEmulated(driver))
            {
                driver.FailCall(call, CudaResult.LaunchFailed);

                CudaException exception = Assert.Throws<CudaException>(() => Run(device));

                Assert.Equal(healthy.Calls[call].Split(' ')[0], exception.Call);
                Assert.Equal(CudaResult.LaunchFailed, exception.Result);
                Assert.True(device.Pool.RentedBlocks == 0, $"{device.Pool.RentedBlocks} blocks of memory leak when call {call}, {healthy.Calls[call]}, fails.");
                AssertSameBits(expected, Run(device));
            }

            Assert.Empty(driver.Outstanding.Except(LeftByFailed(healthy.Calls[call])));
        }

        CaseRun Run(CudaDevice device) => operatorCase.CanBeCaptured
            ? CaseRun.Replay(operatorCase, device, inputs, gradients, DType.BFloat16)
            : CaseRun.Execute(operatorCase, device, inputs, [gradients], format: DType.BFloat16);
    }

    [Theory]
    [MemberData(nameof(OperatorsOnGpus))]
    public void A_full_device_first_gives_back_what_the_pool_holds(string name)
    {
        OperatorCase operatorCase = SmallestCase(name);
        double[][] inputs = CaseData.Inputs(operatorCase);
        double[][] gradients = CaseData.OutputGradients(operatorCase, operatorCase.Reference(inputs));
        var healthy = new EmulatedCudaDriver();
        using CudaDevice untouched = CudaTestDevices.OpenEmulated(healthy);
        CaseRun expected = CaseRun.Execute(operatorCase, untouched, inputs, [gradients]);
        for (int call = 0; call < healthy.Calls.Count; call++)
        {
            if (healthy.Calls[call].StartsWith("cuMemAllocAsync", StringComparison.Ordinal))
            {
                var driver = new EmulatedCudaDriver();
                using CudaDevice device = CudaTestDevices.OpenEmulated(driver);
                driver.FailCall(call, CudaResult.OutOfMemory);
                AssertSameBits(expected, CaseRun.Execute(operatorCase, device, inputs, [gradients]));
                Assert.Equal(0, device.Pool.RentedBlocks);
            }
        }
    }

    /// <summary>The case with the fewest numbers among those that have some and that have the most inputs.</summary>
    private static OperatorCase SmallestCase(string name) => CaseTable.Names.Select(CaseTable.Get)
        .Where(operatorCase => operatorCase.Operator == name && operatorCase.Inputs.All(input => input.Shape.Count > 0))
        .OrderByDescending(operatorCase => operatorCase.Inputs.Count).ThenBy(operatorCase => operatorCase.Inputs.Sum(input => input.Shape.Count)).First();

    /// <summary>What a release that failed could not give back.</summary>
    private static string[] LeftByFailed(string call) => call.Split(' ')[0] switch
    {
        "cuGraphDestroy" => ["graph"],
        "cuGraphExecDestroy" => ["executable graph"],
        _ => [],
    };

    private static void AssertSameBits(CaseRun expected, CaseRun actual)
    {
        Assert.Equal(expected.Outputs.Select(Bits), actual.Outputs.Select(Bits));
        Assert.Equal(expected.Gradients.Select(Bits), actual.Gradients.Select(Bits));
    }

    private static int[] Bits(float[]? values) => values is null ? [] : Array.ConvertAll(values, BitConverter.SingleToInt32Bits);
}
