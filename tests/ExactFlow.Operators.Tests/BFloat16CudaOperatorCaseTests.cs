using ExactFlow.Tensors;

namespace ExactFlow.Operators.Tests;

/// <summary>The case tables on GPUs in bfloat16: activations and matrices of parameters, everything else stays float32.</summary>
public sealed class BFloat16CudaOperatorCaseTests(CudaCases devices) : CudaOperatorCaseTests(devices, DType.BFloat16);
