using ExactFlow.Cuda;
using ExactFlow.Tensors;

namespace ExactFlow.Operators;

/// <summary>The Euclidean norm of all gradients taken as one vector, and the factor that clips it.</summary>
public static partial class GradientNorm
{
    /// <summary>
    /// The norm over the gradients of all parameters, summed in float64 in a fixed order: the same bits for any number of threads.
    /// It is NaN or infinite exactly when some gradient element is; parameters without a gradient count as zero. On a GPU the call waits for it.
    /// </summary>
    /// <exception cref="InvalidInputException">The device has no form of the operator.</exception>
    public static double Compute(IReadOnlyList<Parameter> parameters)
    {
        ArgumentNullException.ThrowIfNull(parameters);
        if (parameters.Count == 0)
        {
            return 0;
        }

        Device device = parameters[0].Value.Device;
        return device switch
        {
            CpuDevice cpu => Forward(cpu, parameters),
            CudaDevice gpu => Forward(gpu, parameters),
            _ => throw Require.Implementation(nameof(GradientNorm), device),
        };
    }

    /// <summary>The factor for all gradients that brings a norm above <paramref name="maximum"/> down to it: min(1, maximum / norm); NaN for a norm that is not finite.</summary>
    /// <param name="norm">The norm, as computed by <see cref="Compute"/>.</param>
    /// <param name="maximum">The largest norm allowed, or 0 or less for no limit.</param>
    public static float ClipFactor(double norm, double maximum)
    {
        if (!double.IsFinite(norm))
        {
            return float.NaN;
        }

        return maximum <= 0 || norm <= maximum ? 1 : (float)(maximum / norm);
    }
}
