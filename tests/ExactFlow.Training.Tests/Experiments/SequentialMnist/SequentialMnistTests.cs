using ExactFlow.Tensors;
using ExactFlow.Training.Experiments;
using ExactFlow.Training.Experiments.SequentialMnist;

namespace ExactFlow.Training.Tests.Experiments.SequentialMnist;

public sealed class SequentialMnistTests : IDisposable
{
    private readonly TemporaryFolder data = new();
    private readonly TemporaryFolder folder = new();

    public static TheoryData<string> Devices => [.. CudaTestDevices.Names];

    public void Dispose()
    {
        data.Dispose();
        folder.Dispose();
    }

    [Theory]
    [MemberData(nameof(Devices))]
    public void A_gpu_learns_what_the_cpu_does_captured_or_not(string device)
    {
        // Batches of 2: four whole steps, the last two a replayed graph, and one of a single image.
        IdxSamples.Write(data, 9, 2);
        var options = new SequentialMnistOptions { BatchSize = 2 };
        SequentialMnistResult expected = Run("cpu", options, () => new CpuDevice(2)), actual = Run("gpu", options, () => CudaTestDevices.Open(device));
        Assert.Equal(5, actual.Steps);
        Assert.All(expected.LossCurve.Zip(actual.LossCurve), pair => Assert.Equal(1, pair.Second / pair.First, 2e-4));
    }

    [Fact]
    public void A_few_steps_learn_made_up_digits_and_disturbances_change_the_answers()
    {
        IdxSamples.Write(data, 480, 40);
        SequentialMnistResult result = Run("cpu", new SequentialMnistOptions { BatchSize = 16 }, () => new CpuDevice(2), rate: 1e-2);
        Assert.Equal(30, result.LossCurve.Length);
        Assert.InRange(result.LossCurve[^5..].Average(), 0, 0.8 * result.LossCurve[0]);
        Assert.InRange(result.Accuracy, 0.3, 1);
        Assert.Equal(result.Accuracy, result.Intensity[0]);
        Assert.Equal(result.Accuracy, result.Noise[0]);
        Assert.Equal(result.Accuracy, result.Dropout[0]);
        Assert.Equal((10, 11, 11), (result.Intensity.Length, result.Noise.Length, result.Dropout.Length));

        // Nothing is left of the images, so all get the same answer, right for one class.
        Assert.InRange(result.Dropout[10], 0, 0.25);
    }

    [Fact]
    public void Disturbances_are_what_they_are_called_and_always_the_same()
    {
        var images = new PerturbedImages(IdxSamples.Images(200, 3)[16..]);
        float[] clean = images.Make(default), bright = images.Make(new Perturbation(PerturbationKind.Intensity, 3)), noisy = images.Make(new Perturbation(PerturbationKind.Noise, 0.5)), dark = images.Make(new Perturbation(PerturbationKind.Dropout, 0.3));
        Assert.All(clean, pixel => Assert.InRange(pixel, 0, 1));
        Assert.Equal(clean.Select(pixel => 3 * pixel), bright);
        double[] noise = [.. noisy.Zip(clean, (a, b) => (double)a - b)];
        Assert.InRange(noise.Average(), -0.005, 0.005);
        Assert.InRange(Math.Sqrt(noise.Average(value => value * value)), 0.495, 0.505);
        double lost = dark.Zip(clean, (a, b) => a == 0 && b > 0).Count(isLost => isLost) / (double)clean.Count(pixel => pixel > 0);
        Assert.InRange(lost, 0.29, 0.31);
        Assert.All(dark.Zip(clean), pair => Assert.True(pair.First == 0 || pair.First == pair.Second));
        Assert.Equal(noisy, new PerturbedImages(IdxSamples.Images(200, 3)[16..]).Make(new Perturbation(PerturbationKind.Noise, 0.5)));
        Assert.All(images.Make(new Perturbation(PerturbationKind.Dropout, 1)), pixel => Assert.Equal(0, pixel));
    }

    [Fact]
    public void Every_epoch_shows_every_image_once_in_an_order_of_its_own()
    {
        int[] first = SequentialMnistRun.Order(1, 0, 1000), second = SequentialMnistRun.Order(1, 1, 1000), other = SequentialMnistRun.Order(2, 0, 1000);
        Assert.Equal(Enumerable.Range(0, 1000), first.Order());
        Assert.NotEqual(first, second);
        Assert.NotEqual(first, other);
        Assert.Equal(first, SequentialMnistRun.Order(1, 0, 1000));
    }

    [Fact]
    public void All_rules_run_and_start_from_the_same_weights_with_the_protocols_scales()
    {
        using var device = new CpuDevice(1);
        float[]? keys = null;
        foreach (SequentialMnistRule rule in SequentialMnistRule.All)
        {
            using var model = new SequentialMnistModel(device, rule, 7);
            Dictionary<string, float[]> weights = model.Parameters.ToDictionary(parameter => parameter.Name, parameter => parameter.Value.ToHost<float>());
            Assert.Equal(keys ??= weights["key.weight"], weights["key.weight"]);
            Assert.Equal(64 + (784 * 64) + (3 * 64 * 64) + 64 + 1 + 64 + 64 + 640 + 10, weights.Values.Sum(values => values.Length));
            AssertUniform(weights["key.weight"], Math.Sqrt(6.0 / 128));
            AssertUniform(weights["input.weight"], 1);
            AssertUniform(weights["head.weight"], 0.125);
            Assert.Equal([-2f], weights["rate.bias"]);
            Assert.InRange(Math.Sqrt(weights["position"].Average(value => value * value)), 0.0198, 0.0202);
            Assert.All(model.Parameters, parameter => Assert.True(parameter.WeightDecay));
        }

        static void AssertUniform(float[] values, double bound)
        {
            Assert.All(values, value => Assert.InRange(value, -bound, bound));
            Assert.InRange(values.Max(), 0.9 * bound, bound);
            Assert.InRange(values.Average(value => value * value) / (bound * bound / 3), values.Length > 1000 ? 0.95 : 0.7, values.Length > 1000 ? 1.05 : 1.3);
        }
    }

    private SequentialMnistResult Run(string name, SequentialMnistOptions options, Func<Device> open, double rate = 3e-3)
    {
        var study = new SequentialMnistStudy(data.Path, options, ["efla"], [rate], [3]);
        Assert.True(study.Run(folder[name], [open], new Silent(), CancellationToken.None));
        return Assert.Single(SequentialMnistStudy.Read(folder[name])).Result;
    }

    private sealed class Silent : IStudyObserver
    {
        public void OnBegin(int runs, int finished, int workers)
        {
        }

        public void OnProgress(StudyProgress progress)
        {
        }

        public void OnFinished(string run, double seconds, string summary, StudyProgress progress)
        {
        }
    }
}
