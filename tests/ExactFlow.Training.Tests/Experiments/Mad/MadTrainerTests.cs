using ExactFlow.Cuda;
using ExactFlow.Models.Mad;
using ExactFlow.Tensors;
using ExactFlow.Testing.Emulation;
using ExactFlow.Training.Experiments.Mad;

namespace ExactFlow.Training.Tests.Experiments.Mad;

/// <summary>Training on MAD's tasks: that small tasks are learned, that a GPU with whole steps in graphs does what the CPU does, and that lanes do not disturb each other.</summary>
public sealed class MadTrainerTests
{
    public static TheoryData<string> Devices => [.. CudaTestDevices.Names];

    [Fact]
    public void A_small_recall_task_is_solved_on_the_cpu_and_training_ends_there()
    {
        MadTaskKind kind = MadTaskKind.Parse("in_context_recall");
        MadSettings settings = kind.Baseline with { Vocabulary = 4, Length = 16, TrainExamples = 512, TestExamples = 64 };
        using var device = new CpuDevice(1);
        var told = new List<string>();
        MadOutcome outcome = Run(device, kind, settings, Training("efla", 4) with { Epochs = 40, Batch = 32, LearningRate = 4e-3, Extrapolation = [32] }, (_, status) => told.Add(status));
        Assert.Equal(1, outcome.Accuracy);
        Assert.InRange(outcome.Epochs, 2, 39);
        Assert.Equal(outcome.BestEpoch, outcome.Epochs);
        Assert.Equal(outcome.Epochs, outcome.Losses.Count);
        Assert.True(outcome.Losses[^1] < outcome.Losses[0]);
        Assert.Equal(0, outcome.SkippedSteps);
        Assert.True(Assert.Single(outcome.Extrapolation).Accuracy > 0.9);
        Assert.Equal(outcome.Epochs, told.Count);
        Assert.Equal(0, device.Pool.RentedBlocks);
    }

    [Theory]
    [InlineData("deltanet")]
    [InlineData("gated_efla")]
    [InlineData("mamba2")]
    [InlineData("softmax")]
    [InlineData("cayley")]
    [InlineData("deltanet_negative")]
    public void Every_kind_of_mixer_lowers_the_loss(string mixer)
    {
        MadTaskKind kind = MadTaskKind.Parse("parity");
        using var device = new CpuDevice(1);
        MadOutcome outcome = Run(device, kind, kind.Baseline with { Length = 8, TrainExamples = 256, TestExamples = 32 }, Training(mixer, 2) with { Epochs = 12, Batch = 32, LearningRate = 5e-3 });
        Assert.True(outcome.Losses[^1] < 0.97 * outcome.Losses[0], $"{outcome.Losses[0]} to {outcome.Losses[^1]}");
    }

    [Theory]
    [MemberData(nameof(Devices))]
    public void A_gpu_trains_as_the_cpu_does(string name)
    {
        foreach ((string task, string mixer) in ((string, string)[])[("in_context_recall", "efla"), ("compression", "gated_deltanet"), ("parity", "mamba2"), ("selective_copying", "softmax")])
        {
            MadTaskKind kind = MadTaskKind.Parse(task);
            MadSettings settings = kind.Baseline with { Vocabulary = task == "parity" ? 2 : 6, Length = 8, Copies = 2, TrainExamples = 26, TestExamples = 9 };

            // Thirteen steps an epoch: two one by one, then a graph of ten and one of one.
            MadTraining training = Training(mixer, settings.Vocabulary, width: 16) with { Epochs = 2, Batch = 2, LearningRate = 1e-3, WeightDecay = 0.1, EnoughAccuracy = 2, Precision = "float32" };
            using var cpu = new CpuDevice(1);
            using CudaDevice gpu = CudaTestDevices.Open(name);
            MadOutcome expected = Run(cpu, kind, settings, training), actual = Run(gpu, kind, settings, training);
            Assert.All(expected.Losses.Zip(actual.Losses), pair => Assert.Equal(pair.First, pair.Second, 1e-4 * pair.First));
            Assert.All(expected.Accuracies.Zip(actual.Accuracies), pair => Assert.Equal(pair.First, pair.Second, 0.15));
            Assert.Equal(expected.Score!.Value, actual.Score!.Value, 0.15);
            Assert.Equal(0, actual.SkippedSteps);
            Assert.Equal(0, gpu.Pool.RentedBlocks);
        }
    }

    [Theory]
    [MemberData(nameof(Devices))]
    public void Trainings_side_by_side_on_one_gpu_give_the_bits_of_trainings_alone(string name)
    {
        const int Lanes = 3;
        MadTaskKind kind = MadTaskKind.Parse("in_context_recall");
        MadSettings settings = kind.Baseline with { Vocabulary = 6, Length = 8, TrainExamples = 26, TestExamples = 9 };
        MadTraining TrainingOf(int lane) => Training(lane == 1 ? "gated_efla" : "efla", 6, width: 16) with { Epochs = 2, Batch = 2, Seed = (ulong)lane, EnoughAccuracy = 2, Precision = "float32" };
        var driver = new EmulatedCudaDriver();
        CudaDevice Open() => name == CudaTestDevices.Emulated ? CudaTestDevices.OpenEmulated(driver) : CudaTestDevices.OpenReal();
        using CudaDevice alone = Open();
        MadOutcome[] expected = [.. Enumerable.Range(0, Lanes).Select(lane => Run(alone, kind, settings, TrainingOf(lane)))];
        var actual = new MadOutcome[Lanes];
        Exception? failure = null;
        Thread[] threads = [.. Enumerable.Range(0, Lanes).Select(lane => new Thread(() =>
        {
            try
            {
                using CudaDevice device = Open();
                actual[lane] = Run(device, kind, settings, TrainingOf(lane));
            }
            catch (Exception exception)
            {
                failure = exception;
            }
        }))];
        Array.ForEach(threads, thread => thread.Start());
        Array.ForEach(threads, thread => thread.Join());
        Assert.Null(failure);
        for (int lane = 0; lane < Lanes; lane++)
        {
            Assert.Equal(expected[lane].Losses, actual[lane].Losses);
            Assert.Equal(expected[lane].Accuracies, actual[lane].Accuracies);
        }
    }

    [Fact]
    public void An_epoch_on_a_gpu_is_a_few_launches_of_graphs_and_does_not_wait_within()
    {
        var driver = new EmulatedCudaDriver();
        MadTaskKind kind = MadTaskKind.Parse("parity");
        MadSettings settings = kind.Baseline with { Length = 8, TrainExamples = 44, TestExamples = 8 };
        MadTraining training = Training("efla", 2, width: 16) with { Epochs = 4, Batch = 2, EnoughAccuracy = 2, Precision = "float32" };
        MadTask task = kind.Create(settings);
        using CudaDevice device = CudaTestDevices.OpenEmulated(driver);
        device.PoisonFreshMemory = false;
        using var model = new MadModel(device, training.Model, 1);
        MadExamples examples = MadExamples.Generate(task, MadSplit.Train, 1, 44), test = MadExamples.Generate(task, MadSplit.Test, 1, 8);
        using var loop = MadLoop.On(device, model, training, examples, test);
        for (int epoch = 0; epoch < 3; epoch++)
        {
            loop.Queue(epoch);
            loop.Read();
        }

        // Ten steps: kernels and products alone, which is what makes a graph cheap to launch.
        string[] names = [.. driver.Calls.Select(call => call.Split(' ')[0])];
        int begin = Array.IndexOf(names, "cuStreamBeginCapture"), end = Array.IndexOf(names, "cuStreamEndCapture");
        Assert.True(end - begin > 1000, $"{end - begin} calls are no ten steps.");
        Assert.All(names[(begin + 1)..end], name => Assert.True(name is "cuLaunchKernel" or "cublasLtMatmul", name));

        int before = driver.Calls.Count;
        loop.Queue(3);
        string[] calls = [.. driver.Calls.Skip(before).Select(call => call.Split(' ')[0])];

        // 22 steps: two graphs of ten, two of one; the test; the record's beginning and its way to the host.
        Assert.Equal(["cuMemsetD8Async", "cuGraphLaunch", "cuGraphLaunch", "cuGraphLaunch", "cuGraphLaunch", "cuGraphLaunch", "cuMemcpyDtoHAsync", "cuEventRecord"], calls);
        Assert.Equal(22, loop.Read().Applied);
    }

    [Fact]
    public void Parts_of_a_batch_add_up_to_the_whole_batch()
    {
        // At test time sequences ask for different numbers of values: parts weigh by what they ask for. Five rows in parts of two.
        MadTaskKind kind = MadTaskKind.Parse("in_context_recall");
        MadTask task = kind.Create(kind.Baseline with { Vocabulary = 6, Length = 8 });
        MadExamples examples = MadExamples.Generate(task, MadSplit.Test, 1, 10);
        MadTraining training = Training("efla", 6, width: 16) with { Epochs = 3, Batch = 5, LearningRate = 1e-2 };
        using var device = new CpuDevice(1);
        MadEpoch[] Train(int partTokens)
        {
            using var model = new MadModel(device, training.Model, 1);
            using var loop = new MadEagerLoop(device, model, training, examples, examples, partTokens);
            return [.. Enumerable.Range(0, 3).Select(epoch =>
            {
                loop.Queue(epoch);
                return loop.Read();
            })];
        }

        MadEpoch[] whole = Train(1000), parts = Train(2 * task.InputLength);
        Assert.All(whole.Zip(parts), pair => Assert.Equal(pair.First.Loss, pair.Second.Loss, 1e-5 * pair.First.Loss));
        Assert.True(whole[2].Loss < whole[0].Loss);
        Assert.Equal(2, parts[2].Applied);
    }

    [Fact]
    public void A_training_that_is_given_up_says_so_and_leaves_nothing_behind()
    {
        MadTaskKind kind = MadTaskKind.Parse("parity");
        using var device = new CpuDevice(1);
        using var stop = new CancellationTokenSource();
        Assert.Throws<OperationCanceledException>(() => Run(device, kind, kind.Baseline with { Length = 8, TrainExamples = 64, TestExamples = 8 },
            Training("efla", 2) with { Epochs = 50, Batch = 32, EnoughAccuracy = 2 }, (_, _) => stop.Cancel(), stop.Token));
        Assert.Equal(0, device.Pool.RentedBlocks);
    }

    [Fact]
    public void Fewer_examples_than_a_step_takes_are_refused()
    {
        MadTaskKind kind = MadTaskKind.Parse("parity");
        using var device = new CpuDevice(1);
        var exception = Assert.Throws<InvalidInputException>(() => Run(device, kind, kind.Baseline with { TrainExamples = 31 }, Training("efla", 2) with { Batch = 32 }));
        Assert.Contains("training examples >= batch must hold", exception.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void The_learning_rate_falls_along_half_a_cosine_and_every_epoch_has_an_order_of_its_own()
    {
        MadTraining training = Training("efla", 2) with { Epochs = 200, LearningRate = 1e-3, Batch = 4 };
        Assert.Equal(1e-3, training.RateOf(0), 1e-12);
        Assert.Equal((1e-3 + 1e-6) / 2, training.RateOf(100), 1e-12);
        Assert.InRange(training.RateOf(199), 1e-6, 1.1e-6);
        int[] order = MadLoop.Order(training with { Epochs = 2 }, 10);
        Assert.Equal(16, order.Length);
        Assert.Equal(8, order[..8].Distinct().Count());
        Assert.NotEqual(order[..8], order[8..]);
    }

    [Fact]
    public void Accuracy_is_a_mean_over_the_classes_that_occur()
    {
        var accuracy = new MadAccuracy([0, 0, 0, 3, -100], 4);
        Assert.Equal(0.5 * ((2.0 / 3) + 1), accuracy.Of([2, 0, 0, 1]), 1e-12);
        Assert.Equal(0, new MadAccuracy([-100], 4).Of([0, 0, 0, 0]));
    }

    [Fact]
    public void A_score_counts_classes_that_are_answered_and_never_asked_for_batch_by_batch()
    {
        // The first batch: class 0 hit twice of three times, class 3 hit, class 1 answered in vain. The second: half of class 2, and class 0 in vain.
        var score = new MadScore(4);
        score.Add(3, [0, 0, 0, 3], [0, 0, 1, 3]);
        Assert.Equal(((2.0 / 3) + 1 + 0) / 3, score.Value, 1e-12);
        score.Add(1, [2, 2], [2, 0]);
        Assert.Equal(((3 * ((2.0 / 3) + 1) / 3) + (0.5 / 2)) / 4, score.Value, 1e-12);
        Assert.Equal(0, new MadScore(4).Value);
    }

    [Fact]
    public void The_score_is_that_of_the_models_own_answers_after_the_last_epoch()
    {
        // Two classes that occur in every batch: score and accuracy are the same share, so both ways to the answers agree.
        MadTaskKind kind = MadTaskKind.Parse("parity");
        using var device = new CpuDevice(1);
        MadOutcome outcome = Run(device, kind, kind.Baseline with { Length = 16, TrainExamples = 64, TestExamples = 32 }, Training("efla", 2) with { Epochs = 3, Batch = 32, EnoughAccuracy = 2 });
        Assert.Equal(outcome.Accuracies[^1], outcome.Score!.Value, 1e-9);
        Assert.InRange(outcome.Score.Value, 0.4, 0.99);
    }

    private static MadTraining Training(string mixer, int vocabulary, int width = 32) => new()
    {
        Model = new MadModelConfig { Mixer = MadMixer.Parse(mixer), Vocabulary = vocabulary, Width = width, Heads = 2 }, LearningRate = 1e-3, WeightDecay = 0, Seed = 3,
    };

    private static MadOutcome Run(Device device, MadTaskKind kind, MadSettings settings, MadTraining training, Action<double, string>? progress = null, CancellationToken stop = default)
    {
        MadTask task = kind.Create(settings);
        MadExamples train = MadExamples.Generate(task, MadSplit.Train, training.Seed, settings.TrainExamples), test = MadExamples.Generate(task, MadSplit.Test, training.Seed, settings.TestExamples);
        return MadTrainer.Run(device, kind, settings, training, train, test, progress ?? ((_, _) => { }), stop);
    }
}
