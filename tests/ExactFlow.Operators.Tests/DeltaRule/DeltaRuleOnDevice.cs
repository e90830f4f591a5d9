using ExactFlow.Cuda;
using ExactFlow.Tensors;
using ExactFlow.Testing;

namespace ExactFlow.Operators.Tests.DeltaRule;

/// <summary>Problems on a GPU, in either number format, through the public operator.</summary>
internal static class DeltaRuleOnDevice
{
    /// <summary>The problem with every input rounded to what a run in this format holds, so that the reference computes with the same numbers.</summary>
    public static DeltaRuleProblem Round(DeltaRuleProblem problem, DType format) => problem with
    {
        Query = Activation(problem.Query, format)!,
        Key = Activation(problem.Key, format)!,
        Value = Activation(problem.Value, format)!,
        GradOutput = Activation(problem.GradOutput, format),
        Beta = Single(problem.Beta),
        LogDecay = Single(problem.LogDecay),
        InitialState = Single(problem.InitialState),
        GradFinalState = Single(problem.GradFinalState),
        Scale = (float)(problem.Scale ?? 1 / Math.Sqrt(problem.QueryShape[3])),
    };

    /// <summary>Output, final state and all gradients.</summary>
    /// <param name="segments">Segments per sequence of the tensor-core kernels, or 0 to choose.</param>
    /// <param name="slices">Slices of their blocks, or 0 to choose.</param>
    public static DeltaRuleSolution Solve(CudaDevice device, DeltaRuleProblem problem, DType format, int segments = 0, int slices = 0)
    {
        using var step = device.BeginStep();
        Shape scalars = [problem.ValueShape[0], problem.ValueShape[1], problem.ValueShape[2]];
        Shape states = [problem.Offsets?.Count ?? problem.ValueShape[0], problem.ValueShape[2], problem.QueryShape[3], problem.ValueShape[3]];
        Tensor q = Make(device, problem.Query, problem.QueryShape, format), k = Make(device, problem.Key, problem.QueryShape, format), v = Make(device, problem.Value, problem.ValueShape, format);
        Tensor beta = Make(device, problem.Beta!, scalars), logDecay = Make(device, problem.LogDecay!, scalars), initial = Make(device, problem.InitialState!, states);
        var options = new DeltaRuleOptions { InitialState = initial, Offsets = problem.Offsets, WantFinalState = true, Scale = (float?)problem.Scale };
        DeltaRuleResult result = DeltaRuleCuda.Apply(device, problem.Rule, q, k, v, beta, logDecay, options, segments, slices);
        result.FinalState!.SeedGrad(Make(device, problem.GradFinalState!, states));
        double[] output = Read(result.Output), finalState = Read(result.FinalState);
        result.Output.Backward(Make(device, problem.GradOutput!, problem.ValueShape, format));
        return new DeltaRuleSolution
        {
            Output = output,
            FinalState = finalState,
            GradQuery = Read(q.Grad!),
            GradKey = Read(k.Grad!),
            GradValue = Read(v.Grad!),
            GradBeta = Read(beta.Grad!),
            GradLogDecay = Read(logDecay.Grad!),
            GradInitialState = Read(initial.Grad!),
        };
    }

    /// <summary>The final state alone and all gradients; the output and the gradient of the queries are zero.</summary>
    public static DeltaRuleSolution SolveFinalState(CudaDevice device, DeltaRuleProblem problem, DType format)
    {
        using var step = device.BeginStep();
        Shape scalars = [problem.ValueShape[0], problem.ValueShape[1], problem.ValueShape[2]];
        Tensor k = Make(device, problem.Key, problem.QueryShape, format), v = Make(device, problem.Value, problem.ValueShape, format);
        Tensor beta = Make(device, problem.Beta!, scalars), logDecay = Make(device, problem.LogDecay!, scalars);
        Tensor initial = Make(device, problem.InitialState!, [problem.Offsets?.Count ?? problem.ValueShape[0], problem.ValueShape[2], problem.QueryShape[3], problem.ValueShape[3]]);
        Tensor finalState = Operators.DeltaRule.FinalState(problem.Rule, k, v, beta, logDecay, new DeltaRuleOptions { InitialState = initial, Offsets = problem.Offsets });
        double[] values = Read(finalState);
        finalState.Backward(Make(device, problem.GradFinalState!, finalState.Shape));
        return new DeltaRuleSolution
        {
            Output = new double[problem.ValueShape.Count],
            FinalState = values,
            GradQuery = new double[problem.QueryShape.Count],
            GradKey = Read(k.Grad!),
            GradValue = Read(v.Grad!),
            GradBeta = Read(beta.Grad!),
            GradLogDecay = Read(logDecay.Grad!),
            GradInitialState = Read(initial.Grad!),
        };
    }

    /// <summary>A tensor that wants a gradient.</summary>
    public static Tensor Make(CudaDevice device, double[] values, Shape shape, DType format = DType.Float32)
    {
        Tensor tensor = device.Empty(shape, format).RequireGrad();
        CaseTensors.Write(tensor, values);
        return tensor;
    }

    public static double[] Read(Tensor tensor) => Array.ConvertAll(CaseTensors.Read(tensor), value => (double)value);

    private static double[]? Activation(double[]? values, DType format)
        => format == DType.BFloat16 && values is not null ? Array.ConvertAll(values, BFloat16Bits.Round) : Single(values);

    private static double[]? Single(double[]? values) => values is null ? null : Array.ConvertAll(values, value => (double)(float)value);
}
