using ExactFlow.Tensors;
using ExactFlow.Tensors.Randomness;

namespace ExactFlow.Operators.Tests;

/// <summary>What the case table of AdamW cannot say: refused steps, several parameters, resuming, bad constants.</summary>
public sealed class AdamWTests
{
    [Theory]
    [InlineData(float.NaN)]
    [InlineData(float.PositiveInfinity)]
    [InlineData(float.NegativeInfinity)]
    public void AGradientThatIsNotFiniteChangesNothing(float bad)
    {
        using var device = new CpuDevice(2) { PoisonFreshMemory = true };
        using var trained = new Trained(device, [100, 20_000]);
        Assert.True(trained.Step());
        int[] before = trained.Bits();

        trained.SetGradients(step: 2);
        trained.Parameters[1].Value.Grad!.Span<float>()[^1] = bad;
        AdamWResult result = trained.Optimizer.ClipAndStep(1e-2f, maximumNorm: 1);

        Assert.False(result.Applied);
        Assert.False(double.IsFinite(result.GradientNorm));
        Assert.Equal(1, trained.Optimizer.StepCount);
        Assert.Equal(before, trained.Bits());
    }

    [Fact]
    public void AFactorThatIsNotFiniteChangesNothing()
    {
        using var device = new CpuDevice(2);
        using var trained = new Trained(device, [7]);
        trained.SetGradients(step: 1);
        int[] before = trained.Bits();

        Assert.False(trained.Optimizer.Step(1e-2f, float.NaN));

        Assert.Equal(before, trained.Bits());
    }

    [Fact]
    public void AParameterWithoutAGradientIsLeftAlone()
    {
        using var device = new CpuDevice(2);
        using var trained = new Trained(device, [5, 6]);
        Assert.True(trained.Step());
        trained.Optimizer.ClearGradients();
        trained.Parameters[0].Value.GradForWrite(out _).Zero();
        float[] value = trained.Parameters[1].Value.ToHost<float>();
        float[] moment = trained.Optimizer.FirstMoments[1].ToHost<float>();

        Assert.True(trained.Optimizer.Step(1e-2f));

        Assert.Equal(value, trained.Parameters[1].Value.ToHost<float>());
        Assert.Equal(moment, trained.Optimizer.FirstMoments[1].ToHost<float>());
    }

    [Fact]
    public void ManyParametersGiveTheSameBitsOnAnyNumberOfThreads()
    {
        int[] sizes = [1, 3, 16_384, 7, 40_001, 63, 0, 65];
        using var one = new CpuDevice(1);
        using var three = new CpuDevice(3);
        using var alone = new Trained(one, sizes);
        using var shared = new Trained(three, sizes);
        for (int step = 0; step < 3; step++)
        {
            Assert.True(alone.Step());
            Assert.True(shared.Step());
        }

        Assert.Equal(alone.Bits(), shared.Bits());
    }

    [Fact]
    public void ResumingFromMomentsAndStepCountContinuesBitForBit()
    {
        using var device = new CpuDevice(2);
        using var straight = new Trained(device, [100]);
        using var resumed = new Trained(device, [100]);
        straight.Step();
        straight.Step();
        resumed.Parameters[0].Value.CopyFrom(straight.Parameters[0].Value);
        resumed.Optimizer.FirstMoments[0].CopyFrom(straight.Optimizer.FirstMoments[0]);
        resumed.Optimizer.SecondMoments[0].CopyFrom(straight.Optimizer.SecondMoments[0]);
        resumed.Optimizer.StepCount = straight.Optimizer.StepCount;

        straight.Step();
        resumed.Step();

        Assert.Equal(straight.Bits(), resumed.Bits());
    }

    [Fact]
    public void NothingLeaks()
    {
        using var device = new CpuDevice(2);
        using (var trained = new Trained(device, [100, 3]))
        {
            trained.Step();
        }

        Assert.Equal(0, device.Pool.RentedBlocks);
    }

    [Fact]
    public void ConstantsOutOfRangeAreNamed()
    {
        Assert.Contains("beta1", Assert.Throws<InvalidInputException>(() => new AdamWOptions { Beta1 = 1 }.Validate()).Message, StringComparison.Ordinal);
        Assert.Contains("beta2", Assert.Throws<InvalidInputException>(() => new AdamWOptions { Beta2 = -0.1 }.Validate()).Message, StringComparison.Ordinal);
        Assert.Contains("epsilon", Assert.Throws<InvalidInputException>(() => new AdamWOptions { Epsilon = 0 }.Validate()).Message, StringComparison.Ordinal);
        Assert.Contains("decay", Assert.Throws<InvalidInputException>(() => new AdamWOptions { WeightDecay = double.NaN }.Validate()).Message, StringComparison.Ordinal);
        Assert.Contains("parameters", Assert.Throws<InvalidInputException>(() => new AdamW([])).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void ALearningRateThatIsNotFiniteIsRefused()
    {
        using var device = new CpuDevice(1);
        using var trained = new Trained(device, [3]);
        trained.SetGradients(step: 1);

        Assert.Throws<InvalidInputException>(() => trained.Optimizer.Step(float.NaN));
        Assert.Equal(0, trained.Optimizer.StepCount);
    }

    [Fact]
    public void AStepInThreePartsIsTheSameStep()
    {
        using var device = new CpuDevice(2);
        using var whole = new Trained(device, [100, 7]);
        using var parts = new Trained(device, [100, 7]);
        for (int step = 0; step < 2; step++)
        {
            whole.SetGradients(step);
            parts.SetGradients(step);
            AdamWResult expected = whole.Optimizer.ClipAndStep(1e-2f, 0.5, 0.25f);
            parts.Optimizer.BeginStep(1e-2f);
            parts.Optimizer.QueueClipAndStep(0.5, 0.25f);

            Assert.Equal(step, parts.Optimizer.StepCount);
            Assert.Equal(expected, parts.Optimizer.FinishStep());
            Assert.Equal(step + 1, parts.Optimizer.StepCount);
        }

        Assert.Equal(whole.Bits(), parts.Bits());
    }

    [Fact]
    public void AStepThatWasNotBegunIsRefused()
    {
        using var device = new CpuDevice(1);
        using var trained = new Trained(device, [3]);
        trained.SetGradients(step: 1);

        Assert.Throws<InvalidOperationException>(() => trained.Optimizer.QueueClipAndStep(1));
        Assert.Throws<InvalidOperationException>(() => trained.Optimizer.FinishStep());
        trained.Step();
        Assert.Throws<InvalidOperationException>(() => trained.Optimizer.FinishStep());
    }

    [Fact]
    public void AWorkingCopyNeedsAGpu()
    {
        using var device = new CpuDevice(1);
        using var parameter = new Parameter("p", device.Persistent([3]), weightDecay: false);

        Assert.Same(parameter.Value, parameter.Working);
        Assert.Contains("GPU", Assert.Throws<InvalidInputException>(parameter.AddWorkingCopy).Message, StringComparison.Ordinal);
        Assert.Null(parameter.WorkingCopy);
    }

    /// <summary>Parameters with an optimizer; values and gradients depend on sizes and step only.</summary>
    private sealed class Trained : IDisposable
    {
        public Trained(Device device, int[] sizes)
        {
            Parameters = [.. sizes.Select((size, i) => new Parameter($"p{i}", device.Persistent([size]), weightDecay: i % 2 == 0))];
            for (int i = 0; i < sizes.Length; i++)
            {
                new Philox(1, (ulong)i).FillNormal(Parameters[i].Value.Span<float>(), 1);
            }

            Optimizer = new AdamW(Parameters);
        }

        public Parameter[] Parameters { get; }

        public AdamW Optimizer { get; }

        public void SetGradients(int step)
        {
            Optimizer.ClearGradients();
            for (int i = 0; i < Parameters.Length; i++)
            {
                new Philox((ulong)step + 10, (ulong)i).FillNormal(Parameters[i].Value.GradForWrite(out _).Span<float>(), 1);
            }
        }

        public bool Step()
        {
            SetGradients(Optimizer.StepCount);
            return Optimizer.ClipAndStep(1e-2f, maximumNorm: 1).Applied;
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
    }
}
