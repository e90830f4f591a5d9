using ExactFlow.Tensors.Autograd;

namespace ExactFlow.Tensors.Tests;

/// <summary>Parts of a step that are computed again: values, gradients, order and memory, with the test operator y = x * x.</summary>
public sealed class RecomputedTests : IDisposable
{
    private readonly CpuDevice device = new(1) { PoisonFreshMemory = true };
    private readonly List<string> calls = [];

    public void Dispose()
    {
        Assert.Equal(0, device.Pool.RentedBlocks);
        device.Dispose();
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void A_part_is_run_again_by_the_backward_pass_with_the_same_gradients(bool isOn)
    {
        using Tensor x = Leaf(2);
        using Step step = device.BeginStep();
        Tensor y;
        using (var part = Recomputed.Run(device, isOn, () => Square(Square(x, "a"), "b")))
        {
            Assert.Equal(16, part.Output.Item());
            y = Square(part.Output, "c");
        }

        Assert.Equal(256, y.Item());
        y.Backward();
        Assert.Equal(8 * 128, x.Grad!.Item());
        string[] expected = isOn ? ["a", "b", "c", "a", "b", "c'", "b'", "a'"] : ["a", "b", "c", "c'", "b'", "a'"];
        Assert.Equal(expected, calls);
    }

    [Fact]
    public void A_value_is_computed_again_before_its_readers_go_back()
    {
        using Tensor x = Leaf(3);
        using Step step = device.BeginStep();
        step.ReleasesBehindBackward = true;
        Tensor squared = Square(x, "a");
        Tensor y;
        using (var again = Recomputed.Of(true, squared, () => Square(x, "again")))
        {
            y = Square(again.Output, "b");
        }

        Assert.Throws<ObjectDisposedException>(() => squared.Address);
        y.Backward();
        Assert.Equal(4 * 27, x.Grad!.Item());
        Assert.Equal(["a", "b", "again", "b'", "a'"], calls);
    }

    [Fact]
    public void Parts_may_hold_parts()
    {
        using Tensor x = Leaf(2);
        using Step step = device.BeginStep();
        Tensor y = Recomputed.Run(device, true, () =>
        {
            using var inner = Recomputed.Run(device, true, () => Square(x, "a"));
            return Square(inner.Output, "b");
        }).Output;
        y.Backward();
        Assert.Equal(32, x.Grad!.Item());
        Assert.Equal(["a", "b", "a", "b", "a", "b'", "a'"], calls);
    }

    [Fact]
    public void Gradients_of_tensors_outside_add_up()
    {
        using Tensor x = Leaf(2);
        using Step step = device.BeginStep();
        Tensor y = Square(x, "y");
        Tensor first = Recomputed.Run(device, true, () => Square(y, "a")).Output;
        Tensor second = Recomputed.Run(device, true, () => Square(y, "b")).Output;
        first.SeedGrad(One());
        second.Backward(One());

        // d(2 y^2)/dx = 4 y 2 x.
        Assert.Equal(4 * 4 * 2 * 2, x.Grad!.Item());
    }

    [Fact]
    public void Memory_is_that_of_one_part_at_a_time()
    {
        const int Parts = 10, Inner = 8, Count = 1 << 12;
        using Tensor x = device.Persistent([Count]).RequireGrad();
        long with = Peak(isOn: true), without = Peak(isOn: false);
        const long Tensor = Count * sizeof(float);

        // Kept: a result per part, and while one goes back its own results and two gradients, or all of everything.
        Assert.InRange(with, (Parts + Inner) * Tensor, (Parts + Inner + 5) * Tensor);
        Assert.InRange(without, Parts * Inner * Tensor, ((Parts * Inner) + 5) * Tensor);

        long Peak(bool isOn)
        {
            x.ClearGrad();
            device.Pool.ResetPeak();
            using Step step = device.BeginStep();
            step.ReleasesBehindBackward = true;
            Tensor y = x;
            for (int i = 0; i < Parts; i++)
            {
                Tensor start = y;
                y = Recomputed.Run(device, isOn, () =>
                {
                    Tensor z = start;
                    for (int j = 0; j < Inner; j++)
                    {
                        z = Square(z, "");
                    }

                    return z;
                }).Output;
            }

            y.Backward(device.Zeros([Count]));
            return device.Pool.PeakRentedBytes;
        }
    }

    [Fact]
    public void What_a_part_holds_ends_with_the_step_when_nobody_goes_back()
    {
        using Tensor x = Leaf(2);
        using (device.BeginStep())
        {
            Tensor y;
            using (var unused = Recomputed.Run(device, true, () => Square(x, "a")))
            {
                y = Square(x, "b");
            }

            y.Backward();
        }

        Assert.Equal(2, device.Pool.RentedBlocks);
    }

    [Fact]
    public void A_result_with_views_cannot_be_given_up()
    {
        using Tensor x = Leaf(2);
        using Step step = device.BeginStep();
        var part = Recomputed.Run(device, true, () => Square(x, "a"));
        part.Output.Reshape([1, 1]);
        Assert.Contains("view", Assert.Throws<InvalidOperationException>(part.Dispose).Message, StringComparison.Ordinal);
        Assert.Throws<InvalidOperationException>(() => Recomputed.Run(device, true, () => x));
    }

    [Fact]
    public void A_failing_part_leaves_the_step_as_it_was()
    {
        using Tensor x = Leaf(2);
        using Step step = device.BeginStep();
        int rented = device.Pool.RentedBlocks;
        Assert.Throws<FormatException>(() => Recomputed.Run(device, true, () =>
        {
            Square(x, "a");
            throw new FormatException();
        }));
        Assert.Equal(rented, device.Pool.RentedBlocks);
        Assert.True(step.RecordsGradients);
        Square(x, "b").Backward();
        Assert.Equal(4, x.Grad!.Item());
    }

    [Fact]
    public void Without_recording_a_part_leaves_nothing_but_its_result()
    {
        using Tensor x = Leaf(2);
        using Step step = device.BeginStep(recordGradients: false);
        int rented = device.Pool.RentedBlocks;
        using var part = Recomputed.Run(device, true, () => Square(Square(x, "a"), "b"));
        Assert.Equal(16, part.Output.Item());
        Assert.Equal(0, step.Tape.Count);
        Assert.Equal(rented + 1, device.Pool.RentedBlocks);
    }

    private Tensor Leaf(float value)
    {
        Tensor x = device.Persistent([1]).RequireGrad();
        x.CopyFrom<float>([value]);
        return x;
    }

    private Tensor One() => device.From<float>([1f], [1]);

    private Tensor Square(Tensor x, string name)
    {
        calls.Add(name);
        Tensor y = device.Empty(x.Shape);
        for (int i = 0; i < x.Count; i++)
        {
            y.Span<float>()[i] = x.Span<float>()[i] * x.Span<float>()[i];
        }

        if (device.CurrentStep is { RecordsGradients: true } step)
        {
            step.Tape.Record(y, () =>
            {
                calls.Add(name + "'");
                Tensor gradient = x.GradForWrite(out bool accumulate);
                for (int i = 0; i < x.Count; i++)
                {
                    float change = 2 * x.Span<float>()[i] * y.Grad!.Span<float>()[i];
                    gradient.Span<float>()[i] = accumulate ? gradient.Span<float>()[i] + change : change;
                }
            });
        }

        return y;
    }
}
