using ExactFlow.Cuda;
using ExactFlow.Operators;
using ExactFlow.Tensors;
using ExactFlow.Tensors.Autograd;
using ExactFlow.Testing.Emulation;

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
    /// <param name="format">Number format of the activations: float32, or on a GPU bfloat16.</param>
    public static CaseRun Execute(
        OperatorCase operatorCase, Device device, IReadOnlyList<double[]> values, IReadOnlyList<double[][]> gradientSets, int? onlyInput = null, DType format = DType.Float32)
    {
        ArgumentNullException.ThrowIfNull(operatorCase);
        ArgumentNullException.ThrowIfNull(device);
        ArgumentNullException.ThrowIfNull(values);
        ArgumentNullException.ThrowIfNull(gradientSets);
        device.PoisonFreshMemory = true;
        bool differentiate = gradientSets.Count > 0 && HasGradient(operatorCase);
        using var tensors = new CaseTensors(operatorCase, device, values, format, i => differentiate && operatorCase.Inputs[i].Differentiable && (onlyInput ?? i) == i);
        using Step step = device.BeginStep(recordGradients: differentiate);
        float[][] outputs = Apply(operatorCase, tensors.Inputs, differentiate ? gradientSets : []);
        return new CaseRun(outputs, ReadGradients(operatorCase, tensors, values));
    }

    /// <summary>Runs forward and backward to warm up, captures one more time, and returns what a replay of that computes.</summary>
    public static CaseRun Replay(OperatorCase operatorCase, CudaDevice device, IReadOnlyList<double[]> values, double[][] outputGradients, DType format)
    {
        ArgumentNullException.ThrowIfNull(operatorCase);
        ArgumentNullException.ThrowIfNull(device);
        ArgumentNullException.ThrowIfNull(values);
        bool differentiate = HasGradient(operatorCase);
        using var tensors = new CaseTensors(operatorCase, device, values, format, i => operatorCase.Inputs[i].Differentiable);
        Tensor[] seeds = MakeSeeds(operatorCase, device, tensors.Inputs, outputGradients);
        try
        {
            // The first time makes the gradients, which keep memory that was only passing through; the second time replaces that; the third needs no more.
            for (int warmUp = 0; warmUp < 2; warmUp++)
            {
                using (device.BeginStep(recordGradients: differentiate))
                {
                    Apply();
                }

                foreach (Tensor master in tensors.Masters)
                {
                    master.ClearGrad();
                }
            }

            using Step step = device.BeginStep(recordGradients: differentiate);
            IReadOnlyList<Tensor> outputs = [];
            using CudaGraph graph = device.Capture(() => outputs = Apply());
            graph.Launch();
            float[][] results = [.. outputs.Select(output => Read(operatorCase, output, "an output"))];
            return new CaseRun(results, ReadGradients(operatorCase, tensors, values));
        }
        finally
        {
            foreach (Tensor seed in seeds)
            {
                seed.Dispose();
            }
        }

        IReadOnlyList<Tensor> Apply()
        {
            IReadOnlyList<Tensor> outputs = operatorCase.Run(tensors.Inputs);
            if (differentiate)
            {
                Backward(outputs, seeds);
            }

            return outputs;
        }
    }

    /// <summary>Persistent output gradients in the formats of the outputs, which only a call tells.</summary>
    public static Tensor[] MakeSeeds(OperatorCase operatorCase, Device device, IReadOnlyList<Tensor> inputs, double[][] outputGradients)
    {
        ArgumentNullException.ThrowIfNull(operatorCase);
        ArgumentNullException.ThrowIfNull(device);
        ArgumentNullException.ThrowIfNull(outputGradients);
        using Step step = device.BeginStep(recordGradients: false);
        IReadOnlyList<Tensor> outputs = operatorCase.Run(inputs);
        var seeds = new List<Tensor>();
        try
        {
            for (int i = 0; i < outputs.Count; i++)
            {
                DType type = outputs[i].DType == DType.Int32 ? DType.Float32 : outputs[i].DType;
                seeds.Add(device.Persistent(outputs[i].Shape, type));
                CaseTensors.Write(seeds[i], outputGradients[i]);
            }
        }
        catch
        {
            seeds.ForEach(seed => seed.Dispose());
            throw;
        }

        return [.. seeds];
    }

    /// <summary>Persistent float32 tensors with the values of a case.</summary>
    public static Tensor[] MakeInputs(OperatorCase operatorCase, Device device, IReadOnlyList<double[]> values)
        => [.. new CaseTensors(operatorCase, device, values, DType.Float32, _ => false).Inputs];

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

    private static float[][] Apply(OperatorCase operatorCase, IReadOnlyList<Tensor> inputs, IReadOnlyList<double[][]> gradientSets)
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
                Tensor seed = outputs[i].Device.Empty(outputs[i].Shape, outputs[i].DType);
                CaseTensors.Write(seed, gradientSets[application][i]);
                recorded.Add(outputs[i]);
                seeds.Add(seed);
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
        return CaseTensors.Read(tensor);
    }

    /// <summary>Gradients of all inputs, once it is sure that the inputs are what they were.</summary>
    private static float[]?[] ReadGradients(OperatorCase operatorCase, CaseTensors tensors, IReadOnlyList<double[]> values)
    {
        var gradients = new float[]?[values.Count];
        for (int i = 0; i < gradients.Length; i++)
        {
            RequireUnchanged(operatorCase, i, tensors.Inputs[i], values[i]);
            gradients[i] = ReadGradient(operatorCase, i, tensors.Masters[i]);
        }

        return gradients;
    }

    private static float[]? ReadGradient(OperatorCase operatorCase, int index, Tensor master)
    {
        if (!master.RequiresGrad)
        {
            return null;
        }

        Tensor gradient = master.Grad
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
        if (tensor.Device is not (CpuDevice or CudaDevice { ModelName: EmulatedCudaDriver.ModelName }))
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
