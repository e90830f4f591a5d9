using ExactFlow.Operators;
using ExactFlow.Tensors;

namespace ExactFlow.Testing;

/// <summary>
/// The inputs of a case on a device, in the number formats that their roles have in a run of float32 or bfloat16. A matrix of parameters in a bfloat16 run
/// is a working copy of a float32 master.
/// </summary>
public sealed class CaseTensors : IDisposable
{
    private readonly Tensor[] masters;
    private readonly Tensor[] inputs;

    /// <summary>Makes the inputs.</summary>
    /// <param name="operatorCase">The case.</param>
    /// <param name="device">Where.</param>
    /// <param name="values">Values, rounded already: see <see cref="CaseData.Inputs(OperatorCase, DType)"/>.</param>
    /// <param name="format">Number format of the run.</param>
    /// <param name="differentiate">Which inputs get a gradient.</param>
    public CaseTensors(OperatorCase operatorCase, Device device, IReadOnlyList<double[]> values, DType format, Func<int, bool> differentiate)
    {
        ArgumentNullException.ThrowIfNull(operatorCase);
        ArgumentNullException.ThrowIfNull(device);
        ArgumentNullException.ThrowIfNull(values);
        ArgumentNullException.ThrowIfNull(differentiate);
        masters = new Tensor[values.Count];
        inputs = new Tensor[values.Count];
        try
        {
            for (int i = 0; i < inputs.Length; i++)
            {
                Make(i, operatorCase.Inputs[i], device, values[i], format, differentiate(i));
            }
        }
        catch
        {
            Dispose();
            throw;
        }
    }

    /// <summary>What the operator reads.</summary>
    public IReadOnlyList<Tensor> Inputs => inputs;

    /// <summary>What has the gradients: the input itself, or its master.</summary>
    public IReadOnlyList<Tensor> Masters => masters;

    /// <summary>The number format of an input in a run of <paramref name="format"/>.</summary>
    public static DType FormatOf(CaseInput input, DType format)
    {
        ArgumentNullException.ThrowIfNull(input);
        return input.Values == CaseValues.Integers ? DType.Int32
            : input.Role is CaseRole.Activation or CaseRole.ParameterMatrix ? format
            : DType.Float32;
    }

    /// <summary>Copies values to a tensor in its own format.</summary>
    public static void Write(Tensor tensor, double[] values)
    {
        ArgumentNullException.ThrowIfNull(tensor);
        switch (tensor.DType)
        {
            case DType.Int32:
                tensor.CopyFrom<int>(Array.ConvertAll(values, value => (int)value));
                break;
            case DType.BFloat16:
                tensor.CopyFrom<ushort>(Array.ConvertAll(values, value => BFloat16Bits.FromSingle((float)value)));
                break;
            default:
                tensor.CopyFrom<float>(Array.ConvertAll(values, value => (float)value));
                break;
        }
    }

    /// <summary>The values of a tensor of any format.</summary>
    public static float[] Read(Tensor tensor)
    {
        ArgumentNullException.ThrowIfNull(tensor);
        return tensor.DType switch
        {
            DType.Int32 => Array.ConvertAll(tensor.ToHost<int>(), value => (float)value),
            DType.BFloat16 => Array.ConvertAll(tensor.ToHost<ushort>(), BFloat16Bits.ToSingle),
            _ => tensor.ToHost<float>(),
        };
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        for (int i = 0; i < inputs.Length; i++)
        {
            if (!ReferenceEquals(inputs[i], masters[i]))
            {
                inputs[i]?.Dispose();
            }

            masters[i]?.Dispose();
        }
    }

    private void Make(int i, CaseInput input, Device device, double[] values, DType format, bool differentiate)
    {
        DType type = FormatOf(input, format);
        bool hasMaster = type == DType.BFloat16 && input.Role == CaseRole.ParameterMatrix;
        masters[i] = device.Persistent(input.Shape, hasMaster ? DType.Float32 : type);
        Write(masters[i], values);
        if (differentiate)
        {
            masters[i].RequireGrad();
        }

        inputs[i] = hasMaster ? masters[i].WorkingCopy(type) : masters[i];
        Write(inputs[i], values);
    }
}
