using ExactFlow.Tensors;
using ExactFlow.Testing;

namespace ExactFlow.Operators.Tests;

/// <summary>The case tables on GPUs in float32.</summary>
public sealed class Float32CudaOperatorCaseTests(CudaCases devices) : CudaOperatorCaseTests(devices, DType.Float32)
{
    [Fact]
    public void Every_case_runs_on_a_real_gpu_too() => CudaTestDevices.OpenReal().Dispose();
}
