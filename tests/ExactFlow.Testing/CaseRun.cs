using ExactFlow.Operators;
using ExactFlow.Tensors;
using ExactFlow.Tensors.Autograd;

namespace ExactFlow.Testing;

/// <summary>
/// An operator case executed on a device: outputs, and gradients of the inputs when output gradients were given. The harness also watches what no
/// comparison would show: inputs that an operator changed, bytes written past the end of a result, gradients that nobody wrote.
/// </summary>
public sealed class CaseRun
{
    private CaseRun(float[][] outputs, float[]?[] gradients)
    {
        Outputs = outputs;
        Gradients = gradients;
    }

    /// <summary>Values of each output of the first application.</summary>
    public IReadOnlyList<float[]> Outputs { get; }

    /// <summary>Gradient of each input, null where none was asked for.</summary>
    public IReadOnlyList<float[]?> Gradients { get; }

    /// <summary>Whether any input of a case has a gradient.</summary>
    public static bool HasGradient(OperatorCase operatorCase) => operatorCase.Inputs.Any(input => input.Differentiable);

    /// <summary>
    /// Applies the operator once per set of output gradients, all in one step and to the same inputs, and then goes backwards through all of them:
    /// with two sets, the gradients of both applications must have been added up.
    /// </summary>
    /// <param name="operatorCase">The case.</param>
    /// <param name="device">Where; fresh memory is filled with NaN.</param>
    /// <param name="values">Values of the inputs.</param>
    /// <param name="gradientSets">Output gradients of each application; none to run forward only, once.</param>
    /// <param name="onlyInput">The one input to differentiate by, or null for all differentiable ones.</param>
    public static CaseRun Execute(
        OperatorCase operatorCase, Device device, IReadOnlyList<double[]> values, IReadOnlyList<double[][]> gradientSets, int? onlyInput = null)
    {
        ArgumentNullException.ThrowIfNull(operatorCase);
        ArgumentNullException.ThrowIfNull(device);
        ArgumentNullException.ThrowIfNull(values);
        ArgumentNullException.ThrowIfNull(gradientSets);
        device.PoisonFreshMemory = true;
        Tensor[] inputs = MakeInputs(operatorCase, device, values);
        try
        {
            bool differentiate = gradientSets.Count > 0 && HasGradient(operatorCase);
            for (int i = 0; differentiate && i < inputs.Length; i++)
            {
                if (operatorCase.Inputs[i].Differentiable && (onlyInput ?? i) == i)
                {
                    inputs[i].RequireGrad();
                }
            }

            using Step step = device.BeginStep(recordGradients: differentiate);
            float[][] outputs = Apply(operatorCase, inputs, differentiate ? gradientSets : []);
            var gradients = new float[]?[inputs.Length];
            for (int i = 0; i < inputs.Length; i++)
            {
                RequireUnchanged(operatorCase, i, inputs[i], values[i]);
                gradients[i] = ReadGradient(operatorCase, i, inputs[i]);
            }

            return new CaseRun(outputs, gradients);
        }
        finally
        {
            foreach (Tensor input in inputs)
            {
                input.Dispose();
            }
        }
    }

    /// <summary>Persistent tensors with the values of a case.</summary>
    public static Tensor[] MakeInputs(OperatorCase operatorCase, Device device, IReadOnlyList<double[]> values)
    {
        ArgumentNullException.ThrowIfNull(operatorCase);
        ArgumentNullException.ThrowIfNull(device);
        ArgumentNullException.ThrowIfNull(values);
        var tensors = new Tensor[values.Count];
        for (int i = 0; i < tensors.Length; i++)
        {
            CaseInput input = operatorCase.Inputs[i];
            tensors[i] = device.Persistent(input.Shape, input.Values == CaseValues.Integers ? DType.Int32 : DType.Float32);
            if (input.Values == CaseValues.Integers)
            {
                tensors[i].CopyFrom<int>(Array.ConvertAll(values[i], value => (int)value));
            }
            else
            {
                tensors[i].CopyFrom<float>(Array.ConvertAll(values[i], value => (float)value));
            }
        }

        return tensors;
    }

    /// <summary>Gives outputs their gradients and goes backwards. Outputs that were not recorded (a state, an index) are left out.</summary>
    public static void Backward(IReadOnlyList<Tensor> outputs, IReadOnlyList<Tensor> outputGradients)
    {
        ArgumentNullException.ThrowIfNull(outputs);
        ArgumentNullException.ThrowIfNull(outputGradients);
        int last = -1;
        for (int i = 0; i < outputs.Count; i++)
        {
            if (outputs[i].RequiresGrad)
            {
                if (last >= 0)
                {
                    outputs[last].SeedGrad(outputGradients[last]);
                }

                last = i;
            }
        }

        if (last < 0)
        {
            throw new InvalidOperationException("No output was recorded, although an input requires its gradient.");
        }

        outputs[last].Backward(outputGradients[last]);
    }

    private static float[][] Apply(OperatorCase operatorCase, Tensor[] inputs, IReadOnlyList<double[][]> gradientSets)
    {
        float[][]? first = null;
        var recorded = new List<Tensor>();
        var seeds = new List<Tensor>();
        for (int application = 0; application < Math.Max(1, gradientSets.Count); application++)
        {
            IReadOnlyList<Tensor> outputs = operatorCase.Run(inputs);
            first ??= [.. outputs.Select(output => Read(operatorCase, output, "an output"))];
            for (int i = 0; i < outputs.Count && application < gradientSets.Count; i++)
            {
                float[] gradient = Array.ConvertAll(gradientSets[application][i], value => (float)value);
                recorded.Add(outputs[i]);
                seeds.Add(outputs[i].Device.From<float>(gradient, outputs[i].Shape));
            }
        }

        if (gradientSets.Count > 0)
        {
            Backward(recorded, seeds);
        }

        return first!;
    }

    private static float[] Read(OperatorCase operatorCase, Tensor tensor, string what)
    {
        RequireNothingWrittenPastTheEnd(operatorCase, tensor, what);
        return tensor.DType == DType.Int32 ? Array.ConvertAll(tensor.ToHost<int>(), value => (float)value) : tensor.ToHost<float>();
    }

    private static float[]? ReadGradient(OperatorCase operatorCase, int index, Tensor input)
    {
        if (!input.RequiresGrad)
        {
            return null;
        }

        Tensor gradient = input.Grad
            ?? throw new InvalidOperationException($"{operatorCase}: nobody wrote the gradient of {operatorCase.Inputs[index].Name}.");
        return Read(operatorCase, gradient, $"the gradient of {operatorCase.Inputs[index].Name}");
    }

    private static void RequireUnchanged(OperatorCase operatorCase, int index, Tensor input, double[] values)
    {
        float[] now = Read(operatorCase, input, operatorCase.Inputs[index].Name);
        for (int i = 0; i < now.Length; i++)
        {
            if (!now[i].Equals((float)values[i]))
            {
                throw new InvalidOperationException($"{operatorCase}: element {i} of input {operatorCase.Inputs[index].Name} changed from {values[i]} to {now[i]}.");
            }
        }
    }

    /// <summary>Blocks of memory are multiples of 64 bytes and were filled with ones when handed out: the rest of the last 64 must still be.</summary>
    private static unsafe void RequireNothingWrittenPastTheEnd(OperatorCase operatorCase, Tensor tensor, string what)
    {
        if (tensor.Device is not CpuDevice)
        {
            return;
        }

        byte* end = (byte*)tensor.Address + tensor.ByteCount;
        for (byte* rest = end; (nint)rest % 64 != 0; rest++)
        {
            if (*rest != 0xFF)
            {
                throw new InvalidOperationException($"{operatorCase}: a byte {rest - end} past the end of {what} {tensor.Shape} was overwritten.");
            }
        }
    }
}
