using System.Runtime.InteropServices;
using ExactFlow.Cuda;
using ExactFlow.Tensors;
using ExactFlow.Tensors.Memory;

namespace ExactFlow.Operators;

public static unsafe partial class GradientNorm
{
    /// <summary>Blocks per multiprocessor that sum squares side by side; as many partial sums are left for the second kernel.</summary>
    private const int BlocksPerMultiprocessor = 8;

    private const int CudaThreads = 256;

    /// <summary>Queues the norm of the gradients in a table, and the factor that clips them; both land in <paramref name="state"/>, a <see cref="CudaStepState"/>.</summary>
    internal static void Queue(CudaDevice device, CudaParameterTable table, Tensor state, double maximumNorm, float gradientScale)
    {
        int blocks = Math.Min(table.Count, BlocksPerMultiprocessor * device.MultiprocessorCount);
        using var partials = new Scratch(device, (long)Math.Max(blocks, 1) * sizeof(double));
        var arguments = new NormArguments
        {
            Chunks = table.Address,
            Partials = partials.Address,
            State = state.Address,
            Maximum = maximumNorm,
            Count = table.Count,
            Scale = gradientScale,
        };
        if (blocks > 0)
        {
            CudaLaunch.Run(device, "gradient_norm.cu", "gradient_norm_sums", new LaunchGeometry(blocks, 1, 1, CudaThreads, 1, 1, 0), arguments);
        }

        arguments.Count = blocks;
        CudaLaunch.Run(device, "gradient_norm.cu", "gradient_norm_finish", new LaunchGeometry(1, 1, 1, CudaThreads, 1, 1, 0), arguments);
    }

    private static double Forward(CudaDevice device, IReadOnlyList<Parameter> parameters)
    {
        using var table = new CudaParameterTable(device, parameters);
        table.Update();
        using Tensor state = CudaStepState.Allocate(device);
        Queue(device, table, state, maximumNorm: 0, gradientScale: 1);
        return CudaStepState.From(state).Norm;
    }

    /// <summary><c>NormArgs</c> of gradient_norm.cu.</summary>
    [StructLayout(LayoutKind.Sequential)]
    private struct NormArguments
    {
        public nint Chunks, Partials, State;
        public double Maximum;
        public long Count;
        public float Scale;
    }
}
