using ExactFlow.Cuda;
using ExactFlow.Tensors;

namespace ExactFlow.Operators;

public static unsafe partial class L2Norm
{
    // RmsNorm's kernels with the sum in place of the mean, and no weight.
    private static void Forward(CudaDevice device, Tensor x, float epsilon, Tensor y)
        => RmsNorm.Forward("L2Norm", device, x, residual: null, weight: null, share: 1, epsilon, sum: null, y);

    private static void Backward(CudaDevice device, Tensor x, float epsilon, Tensor outputGradient, CudaTarget inputGradient)
        => RmsNorm.Backward("L2Norm", device, x, weight: null, share: 1, epsilon, outputGradient, direct: null, inputGradient, weightGradient: default);
}
