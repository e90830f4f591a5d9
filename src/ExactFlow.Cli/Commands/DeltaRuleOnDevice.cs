using ExactFlow.Operators;
using ExactFlow.Tensors;
using ExactFlow.Tensors.Autograd;

namespace ExactFlow.Cli.Commands;

/// <summary>A problem of the delta rule through the operator as models use it: tensors of a device, gradients from the tape.</summary>
internal static class DeltaRuleOnDevice
{
    /// <summary>Solves it; q, k, v and the output in <paramref name="type"/>, scalars and states in float32.</summary>
    public static DeltaRuleSolution Solve(Device device, DeltaRuleProblem problem, DeltaRuleForm form, DType type)
    {
        Shape scalars = [problem.ValueShape[0], problem.ValueShape[1], problem.ValueShape[2]];
        Shape states = [problem.Offsets?.Count ?? problem.QueryShape[0], problem.ValueShape[2], problem.QueryShape[3], problem.ValueShape[3]];
        bool wantsGradients = problem.GradOutput is not null;
        using Step step = device.BeginStep(wantsGradients);
        Tensor q = Upload(device, problem.Query, problem.QueryShape, type);
        Tensor k = Upload(device, problem.Key, problem.QueryShape, type);
        Tensor v = Upload(device, problem.Value, problem.ValueShape, type);
        Tensor? beta = UploadOrNull(device, problem.Beta, scalars);
        Tensor? logDecay = UploadOrNull(device, problem.LogDecay, scalars);
        Tensor? initialState = UploadOrNull(device, problem.InitialState, states);
        if (wantsGradients)
        {
            foreach (Tensor? input in (Tensor?[])[q, k, v, beta, logDecay, initialState])
            {
                input?.RequireGrad();
            }
        }

        DeltaRuleResult result = DeltaRule.Apply(problem.Rule, q, k, v, beta, logDecay, new DeltaRuleOptions
        {
            Scale = (float?)problem.Scale, InitialState = initialState, Offsets = problem.Offsets, Form = form, ChunkLength = problem.ChunkLength, WantFinalState = true,
        });
        double[] output = Download(result.Output);
        double[] finalState = Download(result.FinalState!);
        if (wantsGradients)
        {
            if (UploadOrNull(device, problem.GradFinalState, states) is { } gradFinalState)
            {
                result.FinalState!.SeedGrad(gradFinalState);
            }

            result.Output.Backward(Upload(device, problem.GradOutput!, problem.ValueShape, type));
        }

        return new DeltaRuleSolution
        {
            Output = output,
            FinalState = finalState,
            GradQuery = Gradient(q),
            GradKey = Gradient(k),
            GradValue = Gradient(v),
            GradBeta = Gradient(beta),
            GradLogDecay = Gradient(logDecay),
            GradInitialState = Gradient(initialState),
        };
    }

    private static double[]? Gradient(Tensor? input) => input switch
    {
        null or { RequiresGrad: false } => null,
        { Grad: { } gradient } => Download(gradient),
        _ => new double[input.Count],
    };

    private static Tensor? UploadOrNull(Device device, double[]? values, Shape shape) => values is null ? null : Upload(device, values, shape, DType.Float32);

    private static Tensor Upload(Device device, double[] values, Shape shape, DType type)
    {
        float[] floats = Array.ConvertAll(values, value => (float)value);
        return Elementwise.Convert(device.From<float>(floats, shape), type);
    }

    private static double[] Download(Tensor tensor) => Array.ConvertAll(Elementwise.Convert(tensor, DType.Float32).ToHost<float>(), value => (double)value);
}
