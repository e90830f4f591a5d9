using System.Text.Json;
using ExactFlow.Tensors;
using ExactFlow.Training.Host;
using ExactFlow.Training.Options;
using ExactFlow.Training.Runs;

namespace ExactFlow.Training.Tests;

public class TrainerTests
{
    private static readonly string[] Small = ["steps=40", "data.sequence_length=20", "data.batch_size=3", "evaluation.every=10", "evaluation.sample_every=15",
        "checkpoints.every=0", "checkpoints.keep_best=false", "optimizer.warm_up_steps=5", "optimizer.learning_rate=0.02"];

    private static TrainingOptions Options(params string[] settings) => OptionsJson.Load<TrainingOptions>(null, [.. Small, .. settings]);

    [Fact]
    public void Training_learns_and_its_log_says_so()
    {
        using var session = new TrainingSession(Options("steps=200"));
        session.Trainer.Begin();
        Assert.True(session.Trainer.Run(CancellationToken.None));

        JsonElement[] steps = session.Lines("step");
        Assert.Equal(Enumerable.Range(1, 200), steps.Select(line => line.GetProperty("step").GetInt32()));
        // The text's entropy is about ln 61 / 5 + H(0.2) = 1.3 nats; nothing learned is ln 61 = 4.1.
        Assert.Equal(Math.Log(TinyTask.Vocabulary), steps[0].GetProperty("loss").GetDouble(), 0.3);
        Assert.InRange(steps[^1].GetProperty("loss").GetDouble(), 1.0, 2.2);
        Assert.Equal(12_000, steps[^1].GetProperty("tokens").GetInt64());
        Assert.Equal([.. Enumerable.Range(1, 20).Select(i => i * 10)], session.Lines("validation").Select(line => line.GetProperty("step").GetInt32()));
        Assert.Equal(["sample after 15 ", "sample after 30 "], session.Lines("sample").Take(2).Select(line => line.GetProperty("text").GetString()![..16]));
        Assert.Equal(200, session.Observer.Steps.Count);
        Assert.All(session.Observer.Steps, step => Assert.True(step is { Applied: true, Milliseconds: > 0, Flops: > 0 }));
        Assert.Equal(0, session.Observer.Steps[^1].SecondsLeft);
    }

    [Fact]
    public void Accumulation_equals_the_larger_batch()
    {
        // Two batches of 3 windows hold what one batch of 6 holds; only the rounding of sums differs.
        using var one = new TrainingSession(Options("data.batch_size=6", "steps=10"));
        using var two = new TrainingSession(Options("data.batch_size=3", "data.accumulation=2", "steps=10"));
        one.Trainer.Begin();
        two.Trainer.Begin();
        for (int step = 0; step < 10; step++)
        {
            StepRecord expected = one.Trainer.RunStep();
            StepRecord actual = two.Trainer.RunStep();
            Assert.Equal(expected.Loss, actual.Loss, 1e-5);
            Assert.Equal(expected.GradientNorm, actual.GradientNorm, 1e-5);
            Assert.Equal(120, actual.Tokens);
        }
    }

    [Theory]
    [InlineData(1, 1)]
    [InlineData(17, 1)]
    [InlineData(17, 3)]
    [InlineData(37, 2)]
    public void A_stopped_and_resumed_run_equals_an_unbroken_one(int stopAfter, int accumulation)
    {
        TrainingOptions options = Options($"data.accumulation={accumulation}", "checkpoints.every=13");
        using var folder = new TemporaryFolder();
        using (var first = new TrainingSession(options, folder))
        {
            first.Trainer.Begin();
            for (int step = 0; step < stopAfter; step++)
            {
                first.Trainer.RunStep();
            }

            first.Trainer.Stop();

            // Steps after the checkpoint that nobody will ever see: a resumed run must forget them.
            first.Trainer.RunStep();
        }

        using var resumed = new TrainingSession(options, folder);
        resumed.Trainer.Resume("auto");
        Assert.Equal(stopAfter, resumed.Trainer.StepsDone);
        resumed.Trainer.Run(CancellationToken.None);

        using var unbroken = new TrainingSession(options);
        unbroken.Trainer.Begin();
        unbroken.Trainer.Run(CancellationToken.None);
        resumed.AssertEqual(unbroken);
    }

    [Fact]
    public void Resuming_passes_over_a_damaged_checkpoint_when_automatic_and_refuses_it_when_named()
    {
        TrainingOptions options = Options("checkpoints.every=10", "checkpoints.keep_last=5");
        using var folder = new TemporaryFolder();
        using (var first = new TrainingSession(options, folder))
        {
            first.Trainer.Begin();
            first.Trainer.Run(CancellationToken.None);
        }

        string newest = folder["checkpoints/step-000040/optimizer.safetensors"];
        byte[] bytes = File.ReadAllBytes(newest);
        bytes[^5] ^= 1;
        File.WriteAllBytes(newest, bytes);

        using (var named = new TrainingSession(options, folder))
        {
            var error = Assert.Throws<InvalidInputException>(() => named.Trainer.Resume("step-000040"));
            Assert.Contains("optimizer.safetensors", error.Message, StringComparison.Ordinal);
        }

        using var resumed = new TrainingSession(options, folder);
        resumed.Trainer.Resume("auto");
        Assert.Equal(30, resumed.Trainer.StepsDone);
        Assert.Contains("optimizer.safetensors", Assert.Single(resumed.Observer.Warnings), StringComparison.Ordinal);
        resumed.Trainer.Run(CancellationToken.None);

        using var unbroken = new TrainingSession(options);
        unbroken.Trainer.Begin();
        unbroken.Trainer.Run(CancellationToken.None);
        resumed.AssertEqual(unbroken);
    }

    [Fact]
    public void Resuming_with_other_settings_or_text_is_refused_and_names_them()
    {
        using var folder = new TemporaryFolder();
        using (var first = new TrainingSession(Options(), folder))
        {
            first.Trainer.Begin();
            first.Trainer.RunStep();
            first.Trainer.Stop();
        }

        using (var other = new TrainingSession(Options("optimizer.learning_rate=0.5", "seed=7"), folder))
        {
            var error = Assert.Throws<InvalidInputException>(() => other.Trainer.Resume("auto"));
            Assert.Contains("seed was 42 and is 7", error.Message, StringComparison.Ordinal);
            Assert.Contains("optimizer.learning_rate was 0.02 and is 0.5", error.Message, StringComparison.Ordinal);
        }

        using (var other = new TrainingSession(Options(), folder, text: TinyTask.Text(5_000, 2)))
        {
            var error = Assert.Throws<InvalidInputException>(() => other.Trainer.Resume("auto"));
            Assert.Contains("another text", error.Message, StringComparison.Ordinal);
        }

        using var same = new TrainingSession(Options("checkpoints.every=3"), folder);
        same.Trainer.Resume("auto");
        Assert.Equal(1, same.Trainer.StepsDone);
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void A_step_that_is_not_finite_changes_nothing_but_the_place_in_the_text(bool inLoss)
    {
        using var session = new TrainingSession(Options());
        if (inLoss)
        {
            session.Task.LossIsNaN = call => call is 4;
        }
        else
        {
            session.Task.GradientIsInfinite = call => call is 4;
        }

        session.Trainer.Begin();
        for (int step = 0; step < 3; step++)
        {
            session.Trainer.RunStep();
        }

        float[][] before = session.Weights();
        StepRecord skipped = session.Trainer.RunStep();
        Assert.False(skipped.Applied);
        Assert.Equal(1, skipped.SkippedSteps);
        Assert.Equal(inLoss, double.IsNaN(skipped.Loss));
        Assert.False(double.IsFinite(skipped.GradientNorm));
        Assert.Equal(before, session.Weights());
        Assert.Contains("Step 4 was not applied", Assert.Single(session.Observer.Warnings), StringComparison.Ordinal);

        StepRecord next = session.Trainer.RunStep();
        Assert.True(next.Applied);
        Assert.True(double.IsFinite(next.GradientNorm));
        Assert.NotEqual(before, session.Weights());
        Assert.Equal(JsonValueKind.Null, session.Lines("step")[3].GetProperty("gradient_norm").ValueKind);
    }

    [Fact]
    public void Too_many_steps_in_a_row_that_are_not_finite_end_the_run_with_the_last_checkpoint_intact()
    {
        using var session = new TrainingSession(Options("checkpoints.every=5", "max_non_finite_steps=4"));
        session.Task.LossIsNaN = call => call is 6 or 7 or >= 9;
        session.Trainer.Begin();

        var error = Assert.Throws<InvalidInputException>(() => session.Trainer.Run(CancellationToken.None));

        Assert.Contains("ended at step 12", error.Message, StringComparison.Ordinal);
        Assert.Contains("4 steps in a row", error.Message, StringComparison.Ordinal);
        Assert.Contains("step 10 is intact", error.Message, StringComparison.Ordinal);
        Assert.Equal(5, session.Observer.Warnings.Count);
        Assert.Equal(10, Assert.IsType<int>(session.Folder.Checkpoints.Steps()[0]));
    }

    [Fact]
    public void Stopping_leaves_a_checkpoint()
    {
        using var stop = new CancellationTokenSource();
        using var session = new TrainingSession(Options());
        session.Observer.AfterStep = step =>
        {
            if (step == 7)
            {
                stop.Cancel();
            }
        };
        session.Trainer.Begin();
        Assert.False(session.Trainer.Run(stop.Token));
        Assert.Equal([7], session.Folder.Checkpoints.Steps());
    }

    [Fact]
    public void The_best_checkpoint_stays()
    {
        // The learning rate is far too high from step 20 on: validation gets worse, and the checkpoint of the best one must survive.
        using var session = new TrainingSession(Options("steps=60", "evaluation.every=5", "checkpoints.every=5", "checkpoints.keep_last=1", "checkpoints.keep_best=true",
            "optimizer.start_learning_rate=0.001", "optimizer.learning_rate=3", "optimizer.end_learning_rate=3", "optimizer.warm_up_steps=60"));
        session.Trainer.Begin();
        session.Trainer.Run(CancellationToken.None);

        int best = session.Lines("validation").MinBy(line => line.GetProperty("loss").GetDouble()).GetProperty("step").GetInt32();
        Assert.NotEqual(60, best);
        Assert.Equal([60, best], session.Folder.Checkpoints.Steps());
    }

    [Fact]
    public void A_steady_step_allocates_no_native_memory_and_little_managed()
    {
        using var session = new TrainingSession(Options("evaluation.every=0", "evaluation.sample_every=0", "data.accumulation=2"));
        session.Observer.Steps.EnsureCapacity(100);
        session.Trainer.Begin();
        for (int step = 0; step < 10; step++)
        {
            session.Trainer.RunStep();
        }

        long native = session.Device.Pool.SystemAllocations;
        long managed = GC.GetAllocatedBytesForCurrentThread();
        for (int step = 0; step < 10; step++)
        {
            session.Trainer.RunStep();
        }

        Assert.Equal(native, session.Device.Pool.SystemAllocations);
        Assert.InRange(GC.GetAllocatedBytesForCurrentThread() - managed, 0, 10 * 64 * 1024);
    }

    [Fact]
    public void TensorBoard_events_are_written_beside_the_logs()
    {
        using var folder = new TemporaryFolder();
        TrainingOptions options = Options("steps=3");
        for (int run = 0; run < 2; run++)
        {
            using var session = new TrainingSession(options, folder);
            session.Trainer.Resume("auto");
            session.Trainer.Run(CancellationToken.None);
        }

        string[] files = Directory.GetFiles(folder.Path, "events.out.tfevents.*");
        Assert.Equal(2, files.Length);
        string text = System.Text.Encoding.Latin1.GetString(File.ReadAllBytes(files.MaxBy(file => new FileInfo(file).Length)!));
        Assert.All((string[])["loss/training", "loss/validation", "optimizer/gradient_norm", "sample after 3"], part => Assert.Contains(part, text, StringComparison.Ordinal));
    }

    [Fact]
    public void Nothing_leaks()
    {
        var session = new TrainingSession(Options("steps=5"));
        session.Trainer.Begin();
        session.Trainer.Run(CancellationToken.None);
        session.Dispose();
        Assert.Equal(0, session.Device.Pool.RentedBlocks);
    }

    [Fact]
    public void A_folder_in_use_is_refused()
    {
        using var folder = new TemporaryFolder();
        using var first = new RunFolder(folder.Path);
        var error = Assert.Throws<InvalidInputException>(() => new RunFolder(folder.Path));
        Assert.Contains("cannot be used", error.Message, StringComparison.Ordinal);
    }
}
