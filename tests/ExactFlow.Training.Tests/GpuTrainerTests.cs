using ExactFlow.Cuda;
using ExactFlow.Operators;
using ExactFlow.Tensors;
using ExactFlow.Testing.Emulation;
using ExactFlow.Training.Options;

namespace ExactFlow.Training.Tests;

/// <summary>The training loop on GPUs, emulated and real, with the tiny model: steps that are captured once and replayed.</summary>
public sealed class GpuTrainerTests
{
    private static readonly string[] Small = ["steps=12", "data.sequence_length=20", "data.batch_size=3", "data.accumulation=2", "evaluation.every=5", "evaluation.sample_every=5",
        "checkpoints.every=0", "checkpoints.keep_best=false", "optimizer.warm_up_steps=5", "optimizer.learning_rate=0.02"];

    public static TheoryData<string> Devices => [.. CudaTestDevices.Names];

    private static TrainingOptions Options(params string[] settings) => OptionsJson.Load<TrainingOptions>(null, [.. Small, .. settings]);

    [Theory]
    [MemberData(nameof(Devices))]
    public void Losses_lie_on_those_of_the_cpu(string device)
    {
        using var gpu = new TrainingSession(Options(), device: CudaTestDevices.Open(device));
        using var cpu = new TrainingSession(Options());
        Train(gpu);
        Train(cpu);
        Assert.All(cpu.Observer.Steps.Zip(gpu.Observer.Steps), pair =>
        {
            Assert.Equal(pair.First.Loss, pair.Second.Loss, 1e-5 * pair.First.Loss);
            Assert.Equal(pair.First.GradientNorm, pair.Second.GradientNorm, 1e-4 * pair.First.GradientNorm);
        });
    }

    [Theory]
    [MemberData(nameof(Devices))]
    public void A_captured_step_gives_the_bits_of_one_that_is_not(string device)
    {
        using var captured = new TrainingSession(Options(), device: CudaTestDevices.Open(device));
        using var eager = new TrainingSession(Options(), device: CudaTestDevices.Open(device));
        eager.Trainer.CapturesSteps = false;
        Train(captured);
        Train(eager);
        captured.AssertEqual(eager);
    }

    [Theory]
    [MemberData(nameof(Devices))]
    public void A_stopped_and_resumed_run_equals_an_unbroken_one(string device)
    {
        using var folder = new TemporaryFolder();
        using (var first = new TrainingSession(Options(), folder, device: CudaTestDevices.Open(device)))
        {
            first.Trainer.Begin();
            for (int step = 0; step < 7; step++)
            {
                first.Trainer.RunStep();
            }

            first.Trainer.Stop();
        }

        using var resumed = new TrainingSession(Options(), folder, device: CudaTestDevices.Open(device));
        resumed.Trainer.Resume("auto");
        resumed.Trainer.Run(CancellationToken.None);
        using var unbroken = new TrainingSession(Options(), device: CudaTestDevices.Open(device));
        Train(unbroken);
        resumed.AssertEqual(unbroken);
    }

    [Fact]
    public void A_steady_step_is_a_graph_a_batch_and_one_for_the_optimizer_and_takes_no_memory()
    {
        var driver = new EmulatedCudaDriver();
        using var session = new TrainingSession(Options("evaluation.every=0", "evaluation.sample_every=0"), device: CudaTestDevices.OpenEmulated(driver));
        session.Trainer.Begin();
        for (int step = 0; step < 3; step++)
        {
            session.Trainer.RunStep();
        }

        int before = driver.Calls.Count;
        long allocations = session.Device.Pool.SystemAllocations;
        session.Trainer.RunStep();
        string[] calls = [.. driver.Calls.Skip(before).Select(call => call.Split(' ')[0])];
        Assert.Equal(3, calls.Count(call => call == "cuGraphLaunch"));
        Assert.DoesNotContain("cuLaunchKernel", calls);
        Assert.Equal(allocations, session.Device.Pool.SystemAllocations);

        // Token ids and targets, and the optimizer's factors, go in; losses and the norm come out.
        Assert.Equal(3, calls.Count(call => call == "cuMemcpyHtoDAsync"));
        Assert.Equal(2, calls.Count(call => call == "cuMemcpyDtoHAsync"));
    }

    [Theory]
    [MemberData(nameof(Devices))]
    public void A_replayed_step_that_is_not_finite_changes_nothing_but_the_place_in_the_text(string device)
    {
        using var session = new TrainingSession(Options(), device: CudaTestDevices.Open(device));
        session.Trainer.Begin();
        for (int step = 0; step < 4; step++)
        {
            session.Trainer.RunStep();
        }

        Tensor weight = session.Task.Parameters[2].Value;
        float[] values = weight.ToHost<float>();
        float[] broken = [.. values];
        broken[7] = float.NaN;
        weight.CopyFrom<float>(broken);
        float[][] before = session.Weights();
        StepRecord skipped = session.Trainer.RunStep();
        Assert.False(skipped.Applied);
        Assert.False(double.IsFinite(skipped.Loss));
        Assert.Equal(1, skipped.SkippedSteps);
        Assert.Equal(before, session.Weights());

        weight.CopyFrom<float>(values);
        Assert.True(session.Trainer.RunStep() is { Applied: true, SkippedSteps: 1 });
    }

    [Fact]
    public void What_the_graph_uses_is_nobody_elses_until_it_is_gone()
    {
        var driver = new EmulatedCudaDriver();
        CudaDevice device = CudaTestDevices.OpenEmulated(driver);
        using (var session = new TrainingSession(Options(), device: device))
        {
            using var undisturbed = new TrainingSession(Options(), device: CudaTestDevices.OpenEmulated());
            session.Trainer.Begin();
            undisturbed.Trainer.Begin();
            for (int step = 0; step < 12; step++)
            {
                // Memory of every size that the step uses, filled with NaN while the graph lives.
                Tensor[] others = [.. Enumerable.Range(4, 16).Select(log => device.Persistent([1 << log]))];
                Array.ForEach(others, other => other.CopyFrom<float>([.. Enumerable.Repeat(float.NaN, (int)other.Count)]));
                session.Trainer.RunStep();
                Array.ForEach(others, other => other.Dispose());
                undisturbed.Trainer.RunStep();
            }

            session.AssertEqual(undisturbed);
        }

        Assert.Empty(driver.Outstanding);
    }

    [Fact]
    public void Too_little_memory_is_said_with_the_settings_to_lower_and_the_device_stays_usable()
    {
        CudaDevice device = CudaTestDevices.OpenEmulated(new EmulatedCudaDriver { TotalBytes = 1 << 20 });
        using var session = new TrainingSession(Options("data.batch_size=200"), device: device);
        session.Trainer.Begin();
        string message = Assert.Throws<InvalidInputException>(() => session.Trainer.RunStep()).Message;
        Assert.Contains("200 x 20 tokens", message, StringComparison.Ordinal);
        Assert.Contains("more bytes", message, StringComparison.Ordinal);
        Assert.Contains("are free", message, StringComparison.Ordinal);
        Assert.Contains("data.batch_size", message, StringComparison.Ordinal);
        Assert.Contains("model.recompute", message, StringComparison.Ordinal);
        using (device.BeginStep(recordGradients: false))
        {
            Tensor x = device.From<float>([1, 2, 3], [3]);
            Assert.Equal([2, 4, 6], Elementwise.Add(x, x).ToHost<float>());
        }
    }

    private static void Train(TrainingSession session)
    {
        session.Trainer.Begin();
        session.Trainer.Run(CancellationToken.None);
    }
}
