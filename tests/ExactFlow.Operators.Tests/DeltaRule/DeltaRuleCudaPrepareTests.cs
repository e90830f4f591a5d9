using ExactFlow.Cuda;
using ExactFlow.Tensors;
using ExactFlow.Testing;

namespace ExactFlow.Operators.Tests.DeltaRule;

/// <summary>
/// The first of the tensor-core kernels by itself, since it runs on the emulated GPU too: T, P and the scalars of every chunk against their definitions in float64.
/// T and P are bfloat16, and T goes through products of numbers of eleven bits, so 5e-3 in relative L2.
/// </summary>
public sealed class DeltaRuleCudaPrepareTests(CudaCases devices) : IClassFixture<CudaCases>
{
    private const int C = 64, Time = 150, Heads = 4, KeyHeads = 2, Chunks = 3;

    public static TheoryData<string, string, int, double> Cases
    {
        get
        {
            var cases = new TheoryData<string, string, int, double>();
            foreach (string device in CudaTestDevices.Names)
            {
                foreach (string rule in (string[])["efla", "gated_deltanet", "log_rate_gated_efla", "mamba2"])
                {
                    cases.Add(device, rule, 64, 0.2);
                    cases.Add(device, rule, 128, 1);
                }
            }

            return cases;
        }
    }

    [Theory]
    [MemberData(nameof(Cases))]
    public void What_does_not_depend_on_the_state(string deviceName, string rule, int keyDim, double keyScale)
    {
        CudaDevice device = devices.Device(deviceName);
        Assert.SkipWhen(device.ComputeCapability < new Version(8, 0), $"{device.ModelName} has no bfloat16 products.");
        DeltaRuleProblem problem = DeltaRuleOnDevice.Round(
            Problems.Random(rule, time: Time, keyHeads: KeyHeads, valueHeads: Heads, keyDim: keyDim, valueDim: 1, keyScale: keyScale, decayScale: 2, gradients: false), DType.BFloat16);

        (double[] inverse, double[] attention, double[] scalars, double[] backward) = Run(device, problem, keyDim);

        var expected = new Expected();
        for (int chunk = 0; chunk < Chunks; chunk++)
        {
            for (int head = 0; head < Heads; head++)
            {
                expected.Add(problem, chunk * C, Math.Min(C, Time - (chunk * C)), head);
            }
        }

        Assert.InRange(Errors.RelativeL2(inverse, [.. expected.Inverse]), 0, 5e-3);
        Assert.InRange(Errors.RelativeL2(attention, [.. expected.Attention]), 0, 5e-3);
        Assert.InRange(Errors.RelativeL2(scalars, [.. expected.Scalars]), 0, 1e-5);
        Assert.InRange(Errors.RelativeL2(backward, [.. expected.Backward]), 0, 1e-5);
    }

    private static (double[] Inverse, double[] Attention, double[] Scalars, double[] Backward) Run(CudaDevice device, DeltaRuleProblem problem, int keyDim)
    {
        using var step = device.BeginStep(recordGradients: false);
        Tensor q = DeltaRuleOnDevice.Make(device, problem.Query, problem.QueryShape, DType.BFloat16), k = DeltaRuleOnDevice.Make(device, problem.Key, problem.QueryShape, DType.BFloat16);
        Tensor beta = DeltaRuleOnDevice.Make(device, problem.Beta!, [1, Time, Heads]), logDecay = DeltaRuleOnDevice.Make(device, problem.LogDecay!, [1, Time, Heads]);
        Tensor chunks = device.From<int>([0, 64, 64, 64, 128, 22], [6]);
        Tensor inverse = device.Empty([Chunks, Heads, C, C], DType.BFloat16), attention = device.Empty(inverse.Shape, DType.BFloat16);
        Tensor scalars = device.Empty([Chunks, Heads, C, 4]), backward = device.Empty(scalars.Shape);
        int shared = DeltaRuleCuda.SharedBytes(keyDim, slices: 1).Prepare;
        CudaLaunch.Run(device, "delta_rule_prepare.cu", $"delta_prepare_{keyDim}", new LaunchGeometry(Chunks * Heads, 1, 1, 128, 1, 1, shared), new PrepareArguments
        {
            Query = q.Address,
            Key = k.Address,
            Beta = beta.Address,
            LogDecay = problem.Rule.Decays ? logDecay.Address : 0,
            Chunks = chunks.Address,
            Inverse = inverse.Address,
            Attention = attention.Address,
            Scalars = scalars.Address,
            BackwardScalars = backward.Address,
            Rule = DeltaRuleCuda.NumberOf(problem.Rule),
            Heads = Heads,
            KeyHeads = KeyHeads,
        });
        return (DeltaRuleOnDevice.Read(inverse), DeltaRuleOnDevice.Read(attention), DeltaRuleOnDevice.Read(scalars), DeltaRuleOnDevice.Read(backward));
    }

    /// <summary>The definitions, chunk after chunk; tokens that a chunk lacks erase and write nothing.</summary>
    private sealed class Expected
    {
        public List<double> Inverse { get; } = [];

        public List<double> Attention { get; } = [];

        public List<double> Scalars { get; } = [];

        public List<double> Backward { get; } = [];

        public void Add(DeltaRuleProblem problem, int first, int count, int head)
        {
            int keyDim = problem.QueryShape[3];
            var erase = new double[C];
            var write = new double[C];
            var log = new double[C];
            var unit = new double[C];
            double sum = 0;
            for (int t = 0; t < C; t++)
            {
                if (t < count)
                {
                    int scalar = ((first + t) * Heads) + head;
                    double lambda = Product(problem.Key, problem.Key, t, t);
                    DeltaCoefficients c = problem.Rule.Evaluate(problem.Beta![scalar], lambda, problem.LogDecay![scalar]);
                    (erase[t], write[t], unit[t]) = (c.Erase * lambda, c.Write * Math.Sqrt(lambda), 1 / Math.Sqrt(lambda));
                    sum += c.LogDecay;
                }

                log[t] = sum;
            }

            var inverse = new double[C, C];
            for (int r = 0; r < C; r++)
            {
                for (int i = 0; i < C; i++)
                {
                    double value = r == i ? 1 : 0;
                    for (int m = i; m < r && r < count; m++)
                    {
                        value -= erase[r] * unit[r] * unit[m] * Product(problem.Key, problem.Key, r, m) * Math.Exp(log[r] - log[m]) * inverse[m, i];
                    }

                    inverse[r, i] = value;
                    Inverse.Add(value);
                    Attention.Add(i <= r && r < count ? unit[i] * Product(problem.Query, problem.Key, r, i) * Math.Exp(log[r] - log[i]) : 0);
                }

                Scalars.AddRange([write[r], erase[r] * Math.Exp(log[r]) * unit[r], Math.Exp(log[r]), Math.Exp(sum - log[r]) * unit[r]]);
            }

            for (int r = 0; r < C; r++)
            {
                Backward.AddRange([erase[r], unit[r], log[r], sum]);
            }

            double Product(double[] left, double[] right, int r, int i)
            {
                int a = (((first + r) * KeyHeads) + (head / (Heads / KeyHeads))) * keyDim, b = (((first + i) * KeyHeads) + (head / (Heads / KeyHeads))) * keyDim;
                double product = 0;
                for (int j = 0; j < keyDim; j++)
                {
                    product += left[a + j] * right[b + j];
                }

                return product;
            }
        }
    }
}
