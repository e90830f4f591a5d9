using ExactFlow.Cuda;
using ExactFlow.Tensors;
using ExactFlow.Tensors.Randomness;
using ExactFlow.Testing;

namespace ExactFlow.Operators.Tests;

/// <summary>AdamW and the gradients' norm on GPUs: many parameters against the float64 reference, refused steps, working copies, replayed graphs.</summary>
public sealed class AdamWCudaTests
{
    private const float LearningRate = 1e-2f;
    private static readonly int[] Sizes = [1, 3, 8_192, 7, 20_001, 63, 0, 65, 100, 8_193];

    public static TheoryData<string> Devices => [.. CudaTestDevices.Names];

    [Theory]
    [MemberData(nameof(Devices))]
    public void ManyParametersFollowTheReference(string name)
    {
        using CudaDevice device = CudaTestDevices.Open(name);
        using var trained = new Trained(device, Sizes);
        double[][] values = [.. Sizes.Select((_, i) => Array.ConvertAll(trained.Parameters[i].Value.ToHost<float>(), value => (double)value))];
        double[][] first = [.. Sizes.Select(size => new double[size])];
        double[][] second = [.. Sizes.Select(size => new double[size])];
        for (int step = 1; step <= 3; step++)
        {
            const float Scale = 0.5f;
            double[][] gradients = trained.SetGradients(step);
            double norm = Scale * GradientNorm.Reference(gradients);

            // The first step is clipped, the second has just no need of it, the third knows no limit.
            double maximum = step switch { 1 => norm / 10, 2 => norm * 1.01, _ => 0 };
            double factor = Scale * (step == 1 ? 0.1 : 1);
            AdamWResult result = trained.Optimizer.ClipAndStep(LearningRate, maximum, Scale);

            Assert.True(result.Applied);
            Assert.Equal(norm, result.GradientNorm, 1e-9 * norm);
            for (int i = 0; i < Sizes.Length; i++)
            {
                AdamW.Reference(values[i], Array.ConvertAll(gradients[i], g => factor * g), first[i], second[i], step, LearningRate, trained.Optimizer.Options, i % 2 == 0);
                Near(values[i], trained.Parameters[i].Value);
                Near(first[i], trained.Optimizer.FirstMoments[i]);
                Near(second[i], trained.Optimizer.SecondMoments[i]);
            }
        }

        Assert.Equal(3, trained.Optimizer.StepCount);
    }

    [Theory]
    [MemberData(nameof(Devices))]
    public void ScheduledStepsOfAGraphAreThoseThatTheHostBegins(string name)
    {
        using CudaDevice device = CudaTestDevices.Open(name);
        using var begun = new Trained(device, [65, 8_193]);
        using var scheduled = new Trained(device, [65, 8_193]);
        float[] rates = [1e-2f, 5e-3f, 1e-3f, 2e-2f, 1e-4f];
        using Tensor schedule = scheduled.Optimizer.Schedule(rates), position = device.Persistent([1], DType.Int32), loss = device.Persistent([]), record = device.Persistent([3], DType.Int32);
        loss.CopyFrom<float>([0.25f]);
        begun.SetGradients(step: 1);
        scheduled.SetGradients(step: 1);
        scheduled.Optimizer.QueueScheduledStep(schedule, position, loss, record, maximumNorm: 1);
        using CudaGraph two = device.Capture(() =>
        {
            scheduled.Optimizer.QueueScheduledStep(schedule, position, loss, record, maximumNorm: 1);
            scheduled.Optimizer.QueueScheduledStep(schedule, position, loss, record, maximumNorm: 1);
        });
        two.Launch();
        two.Launch();
        foreach (float rate in rates)
        {
            begun.Optimizer.ClipAndStep(rate, 1);
        }

        for (int i = 0; i < 2; i++)
        {
            Assert.Equal(begun.Parameters[i].Value.ToHost<float>(), scheduled.Parameters[i].Value.ToHost<float>());
            Assert.Equal(begun.Optimizer.SecondMoments[i].ToHost<float>(), scheduled.Optimizer.SecondMoments[i].ToHost<float>());
        }

        Assert.Equal(5, position.ToHost<int>()[0]);
        Assert.Equal([BitConverter.SingleToInt32Bits(1.25f), 5, 0], record.ToHost<int>());
    }

    [Theory]
    [MemberData(nameof(Devices))]
    public void AScheduledStepWhoseGradientIsNotFiniteChangesNothing(string name)
    {
        using CudaDevice device = CudaTestDevices.Open(name);
        using var trained = new Trained(device, [7]);
        using Tensor schedule = trained.Optimizer.Schedule([1e-2f]), position = device.Persistent([1], DType.Int32), loss = device.Persistent([]), record = device.Persistent([2], DType.Int32);
        float[] before = trained.Parameters[0].Value.ToHost<float>();
        trained.SetGradients(step: 1, float.NaN);
        trained.Optimizer.QueueScheduledStep(schedule, position, loss, record, maximumNorm: 0);
        Assert.Equal(before, trained.Parameters[0].Value.ToHost<float>());
        Assert.Equal((1, 0), (position.ToHost<int>()[0], record.ToHost<int>()[1]));
    }

    [Theory]
    [MemberData(nameof(Devices))]
    public void BatchesArePutTogetherInTheirOrderOnTheDevice(string name)
    {
        using CudaDevice device = CudaTestDevices.Open(name);
        int[] inputs = [.. Enumerable.Range(0, 35)], targets = [.. inputs.Select(i => -i)];
        using var batches = new CudaBatches(device, inputs, targets, length: 5, order: [6, 0, 3, 1, 5, 5], rows: 2);
        using Tensor position = device.Persistent([1], DType.Int32);
        foreach ((int batch, int first, int second) in ((int, int, int)[])[(0, 6, 0), (1, 3, 1), (2, 5, 5)])
        {
            position.CopyFrom<int>([batch]);
            batches.QueueNext(position);
            int[] expected = [.. Enumerable.Range(first * 5, 5), .. Enumerable.Range(second * 5, 5)];
            Assert.Equal(expected, batches.Inputs.ToHost<int>());
            Assert.Equal(expected.Select(i => -i), batches.Targets.ToHost<int>());
        }
    }

    [Theory]
    [MemberData(nameof(Devices))]
    public void WorkingCopiesAreTheRoundedValues(string name)
    {
        using CudaDevice device = CudaTestDevices.Open(name);
        using var trained = new Trained(device, Sizes);
        trained.AddWorkingCopies();
        trained.RequireRoundedCopies();

        trained.SetGradients(step: 1);
        Assert.True(trained.Optimizer.ClipAndStep(LearningRate, 1).Applied);
        trained.RequireRoundedCopies();

        trained.Parameters[4].Value.CopyFrom<float>(new float[20_001]);
        trained.Parameters[4].RefreshWorkingCopy();
        trained.RequireRoundedCopies();
    }

    [Theory]
    [MemberData(nameof(Devices))]
    public void AGradientThatIsNotFiniteChangesNothing(string name)
    {
        using CudaDevice device = CudaTestDevices.Open(name);
        using var trained = new Trained(device, Sizes);
        trained.AddWorkingCopies();
        foreach (float bad in new[] { float.NaN, float.PositiveInfinity, float.NegativeInfinity })
        {
            double[][] gradients = trained.SetGradients(step: 1);
            gradients[4][^1] = bad;
            trained.Parameters[4].Value.Grad!.CopyFrom<float>(Array.ConvertAll(gradients[4], g => (float)g));
            int[] before = trained.Bits();
            AdamWResult result = trained.Optimizer.ClipAndStep(LearningRate, maximumNorm: 1);

            Assert.False(result.Applied);
            Assert.False(double.IsFinite(result.GradientNorm));
            Assert.Equal(before, trained.Bits());
            trained.RequireRoundedCopies();
        }

        trained.SetGradients(step: 1);
        int[] unchanged = trained.Bits();
        Assert.False(trained.Optimizer.Step(LearningRate, float.NaN));
        Assert.Equal(unchanged, trained.Bits());
        Assert.Equal(0, trained.Optimizer.StepCount);
        Assert.True(trained.Optimizer.Step(LearningRate));
    }

    [Theory]
    [MemberData(nameof(Devices))]
    public void GradientsMayComeAndGo(string name)
    {
        using CudaDevice device = CudaTestDevices.Open(name);
        using var trained = new Trained(device, [5, 6]);
        Assert.True(trained.Optimizer.Step(LearningRate));
        Assert.Equal(0, GradientNorm.Compute(trained.Parameters));

        float[] start = trained.Parameters[1].Value.ToHost<float>();
        trained.Parameters[0].Value.GradForWrite(out _).CopyFrom<float>([2, 3, 6, 0, 0]);
        AdamWResult result = trained.Optimizer.ClipAndStep(LearningRate, 1);
        Assert.Equal(7, result.GradientNorm, 1e-12);
        Assert.Equal(start, trained.Parameters[1].Value.ToHost<float>());

        trained.SetGradients(step: 2);
        Assert.True(trained.Optimizer.Step(LearningRate));
        Assert.NotEqual(start, trained.Parameters[1].Value.ToHost<float>());
    }

    [Theory]
    [MemberData(nameof(Devices))]
    public void AReplayedStepIsTheSameStep(string name)
    {
        using CudaDevice device = CudaTestDevices.Open(name);
        using var eager = new Trained(device, Sizes);
        using var replayed = new Trained(device, Sizes);
        replayed.AddWorkingCopies();
        CudaGraph? graph = null;
        for (int step = 1; step <= 4; step++)
        {
            float rate = LearningRate / step;
            eager.SetGradients(step, step == 3 ? float.NaN : 1);
            replayed.SetGradients(step, step == 3 ? float.NaN : 1);
            AdamWResult expected = eager.Optimizer.ClipAndStep(rate, 1, 0.25f);
            replayed.Optimizer.BeginStep(rate);
            if (step == 1)
            {
                replayed.Optimizer.QueueClipAndStep(1, 0.25f);
            }
            else
            {
                graph ??= device.Capture(() => replayed.Optimizer.QueueClipAndStep(1, 0.25f));
                graph.Launch();
            }

            Assert.Equal(expected, replayed.Optimizer.FinishStep());
            Assert.Equal(eager.Optimizer.StepCount, replayed.Optimizer.StepCount);
        }

        Assert.Equal(3, replayed.Optimizer.StepCount);
        Assert.Equal(eager.Bits(), replayed.Bits());
        replayed.RequireRoundedCopies();
        graph!.Dispose();
    }

    [Theory]
    [MemberData(nameof(Devices))]
    public void AStepThatWasNotQueuedIsNotApplied(string name)
    {
        using CudaDevice device = CudaTestDevices.Open(name);
        using var trained = new Trained(device, [3]);
        trained.SetGradients(step: 1);
        Assert.True(trained.Optimizer.Step(LearningRate));
        trained.Optimizer.BeginStep(LearningRate);

        Assert.False(trained.Optimizer.FinishStep().Applied);
        Assert.Equal(1, trained.Optimizer.StepCount);
    }

    [Theory]
    [MemberData(nameof(Devices))]
    public void NothingLeaks(string name)
    {
        using CudaDevice device = CudaTestDevices.Open(name);
        using (var trained = new Trained(device, Sizes))
        {
            trained.AddWorkingCopies();
            trained.SetGradients(step: 1);
            Assert.True(trained.Optimizer.Step(LearningRate));
        }

        Assert.Equal(0, device.Pool.RentedBlocks);
    }

    [Theory]
    [MemberData(nameof(Devices))]
    public void TheNormHoldsForNumbersOfAnySize(string name)
    {
        using CudaDevice device = CudaTestDevices.Open(name);
        using var parameter = new Parameter("p", device.Persistent([20_003]), weightDecay: false);
        foreach (float value in new[] { float.MaxValue, float.Epsilon, 0 })
        {
            var gradient = new float[20_003];
            Array.Fill(gradient, value);
            parameter.Value.GradForWrite(out _).CopyFrom<float>(gradient);
            double expected = Math.Sqrt(20_003) * value;

            Assert.Equal(expected, GradientNorm.Compute([parameter]), 1e-12 * expected);
        }
    }

    [Theory]
    [MemberData(nameof(Devices))]
    public void OneBadElementAnywhereShowsInTheNorm(string name)
    {
        using CudaDevice device = CudaTestDevices.Open(name);
        using var parameter = new Parameter("p", device.Persistent([20_003]), weightDecay: false);
        foreach (int position in new[] { 0, 8_191, 8_192, 20_000, 20_002 })
        {
            var gradient = new float[20_003];
            gradient[position] = float.NaN;
            parameter.Value.GradForWrite(out _).CopyFrom<float>(gradient);
            Assert.True(double.IsNaN(GradientNorm.Compute([parameter])));

            gradient[position] = float.NegativeInfinity;
            parameter.Value.GradForWrite(out _).CopyFrom<float>(gradient);
            Assert.Equal(double.PositiveInfinity, GradientNorm.Compute([parameter]));
        }
    }

    /// <summary>A few float32 roundings per step away from the reference.</summary>
    private static void Near(double[] expected, Tensor tensor)
    {
        if (expected.Length > 0)
        {
            double error = RelativeError.L2(tensor.ToHost<float>(), expected);
            Assert.True(error < 1e-6, $"The relative error of {tensor} is {error}.");
        }
    }

    /// <summary>Parameters with an optimizer; values and gradients depend on sizes and step only.</summary>
    private sealed class Trained : IDisposable
    {
        public Trained(CudaDevice device, int[] sizes)
        {
            Parameters = [.. sizes.Select((size, i) => new Parameter($"p{i}", device.Persistent([size]), weightDecay: i % 2 == 0))];
            for (int i = 0; i < sizes.Length; i++)
            {
                Parameters[i].Value.CopyFrom<float>(Normal(1, (ulong)i, sizes[i]));
            }

            Optimizer = new AdamW(Parameters);
        }

        public Parameter[] Parameters { get; }

        public AdamW Optimizer { get; }

        public void AddWorkingCopies()
        {
            foreach (Parameter parameter in Parameters)
            {
                parameter.AddWorkingCopy();
            }
        }

        public double[][] SetGradients(int step, float factor = 1)
        {
            Optimizer.ClearGradients();
            var gradients = new double[Parameters.Length][];
            for (int i = 0; i < Parameters.Length; i++)
            {
                float[] drawn = Array.ConvertAll(Normal((ulong)step + 10, (ulong)i, (int)Parameters[i].Value.Count), g => factor * g);
                Parameters[i].Value.GradForWrite(out _).CopyFrom<float>(drawn);
                gradients[i] = Array.ConvertAll(drawn, g => (double)g);
            }

            return gradients;
        }

        public void RequireRoundedCopies()
        {
            foreach (Parameter parameter in Parameters)
            {
                ushort[] rounded = Array.ConvertAll(parameter.Value.ToHost<float>(), BFloat16Bits.FromSingle);
                Assert.Equal(rounded, parameter.Working.ToHost<ushort>());
            }
        }

        public int[] Bits()
            =>
            [
                .. Parameters.Select(parameter => parameter.Value).Concat(Optimizer.FirstMoments).Concat(Optimizer.SecondMoments)
                    .SelectMany(tensor => tensor.ToHost<float>()).Select(BitConverter.SingleToInt32Bits),
            ];

        public void Dispose()
        {
            Optimizer.Dispose();
            foreach (Parameter parameter in Parameters)
            {
                parameter.Dispose();
            }
        }

        private static float[] Normal(ulong seed, ulong stream, int count)
        {
            var values = new float[count];
            new Philox(seed, stream).FillNormal(values, 1);
            return values;
        }
    }
}
