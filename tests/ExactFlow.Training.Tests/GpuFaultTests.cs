using System.Text;
using ExactFlow.Cuda;
using ExactFlow.Operators;
using ExactFlow.Tensors;
using ExactFlow.Testing.Emulation;
using ExactFlow.Training.Data;
using ExactFlow.Training.Options;
using ExactFlow.Training.Runs;

namespace ExactFlow.Training.Tests;

/// <summary>
/// A small language model in bfloat16 on the emulated GPU, and every single driver call of its first step (operator by operator), of the step that is captured and of
/// a replayed one fails once: the error names the call, no memory leaks, and the same device then trains to the same losses.
/// </summary>
public sealed class GpuFaultTests : IDisposable
{
    private readonly TemporaryFolder folder = new();
    private readonly TrainingOptions options = LanguageModelSession.Options(
        "steps=100", "model.hidden=16", "data.sequence_length=6", "data.batch_size=1", "data.accumulation=1", "model.rule=gated_efla", "model.precision=bfloat16");

    private readonly TokenizedText text;

    public GpuFaultTests()
    {
        ReadOnlyMemory<byte> words = Encoding.UTF8.GetBytes(string.Concat(Enumerable.Repeat("keys write values into the state and queries read them. ", 40)));
        text = TokenizedText.Prepare(options.Data, new TextCorpus("words", words, words, 1, 1), folder["tokenizer.json"], options.Seed, threads: 1);
    }

    public void Dispose() => folder.Dispose();

    [Fact]
    public void Every_failing_call_of_the_first_step_is_a_named_error_without_a_leak() => FailEach(firstStep: 0, steps: 1);

    /// <summary>The third step is captured and replayed, the fourth only replayed.</summary>
    [Fact]
    public void Every_failing_call_of_a_captured_and_a_replayed_step_is_a_named_error_without_a_leak() => FailEach(firstStep: 2, steps: 4);

    /// <summary>Fails each call from the end of some steps to the end of others; from the making of the model when there are no steps before.</summary>
    private void FailEach(int firstStep, int steps)
    {
        var healthy = new EmulatedCudaDriver();
        using CudaDevice untouched = CudaTestDevices.OpenEmulated(healthy);
        int[] ends = [healthy.Calls.Count, .. new int[steps]];
        double[] losses = Train(untouched, steps, step => ends[step] = healthy.Calls.Count);
        for (int call = ends[firstStep]; call < ends[steps]; call++)
        {
            var driver = new EmulatedCudaDriver();
            using (CudaDevice device = CudaTestDevices.OpenEmulated(driver))
            {
                driver.FailCall(call, CudaResult.LaunchFailed);

                CudaException exception = Assert.Throws<CudaException>(() => Train(device, steps));

                Assert.Equal(healthy.Calls[call].Split(' ')[0], exception.Call);
                Assert.Equal(CudaResult.LaunchFailed, exception.Result);
                Assert.True(device.Pool.RentedBlocks == 0, $"{device.Pool.RentedBlocks} blocks of memory leak when call {call}, {healthy.Calls[call]}, fails.");
                AssertUsable(device, call % 16 == 0 ? losses[..1] : []);
            }

            // What the failed call itself should have given back stays; nothing else does.
            string[] kept = healthy.Calls[call].Split(' ')[0] switch { "cuGraphDestroy" => ["graph"], "cuMemFreeAsync" => ["bytes"], _ => [] };
            Assert.Equal(kept, driver.Outstanding.Select(held => held.Split(' ')[^1]));
        }

        Assert.True(ends[steps] - ends[firstStep] > 100, "The steps make fewer calls than they have operators.");
    }

    private void AssertUsable(CudaDevice device, double[] losses)
    {
        using (device.BeginStep(recordGradients: false))
        {
            Tensor x = device.From<float>([1, 2, 3], [3]);
            Assert.Equal([2, 4, 6], Elementwise.Add(x, x).ToHost<float>());
        }

        Assert.Equal(losses, losses.Length == 0 ? [] : Train(device, losses.Length));
    }

    private double[] Train(CudaDevice device, int steps, Action<int>? afterStep = null)
    {
        using var own = new TemporaryFolder();
        using var run = new RunFolder(own.Path);
        using var task = new LanguageModelTask(device, options, text);
        var observer = new RecordingObserver();
        using var trainer = new Trainer(options, task, text.Training, run, observer);
        trainer.Begin();
        for (int step = 0; step < steps; step++)
        {
            trainer.RunStep();
            afterStep?.Invoke(step + 1);
        }

        return [.. observer.Steps.Select(step => step.Loss)];
    }
}
