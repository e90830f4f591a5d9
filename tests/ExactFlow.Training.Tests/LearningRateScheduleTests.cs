using ExactFlow.Tensors;

namespace ExactFlow.Training.Tests;

public class LearningRateScheduleTests
{
    [Fact]
    public void Warms_up_in_a_line_and_falls_in_half_a_cosine()
    {
        var schedule = new LearningRateSchedule(peak: 3e-4, start: 3e-5, end: 3e-5, warmUpSteps: 1024, steps: 8192);

        Assert.Equal(3e-5, schedule.At(0), 1e-18);
        Assert.Equal(1.65e-4, schedule.At(512), 1e-15);
        Assert.Equal(3e-4, schedule.At(1024), 1e-18);
        // Half way through the cosine the rate is the mean of its ends; a quarter of the way cos(pi / 4) decides.
        Assert.Equal(1.65e-4, schedule.At(1024 + 3584), 1e-15);
        Assert.Equal(3e-5 + (2.7e-4 * 0.5 * (1 + Math.Sqrt(0.5))), schedule.At(1024 + 1792), 1e-15);
        Assert.Equal(3e-5, schedule.At(8192), 1e-18);
        Assert.Equal(3e-5, schedule.At(100_000), 1e-18);
    }

    [Theory]
    [InlineData(1, 0)]
    [InlineData(1, 1)]
    [InlineData(7, 3)]
    [InlineData(100, 100)]
    public void Rises_to_the_peak_then_never_rises(int steps, int warmUp)
    {
        var schedule = new LearningRateSchedule(1, 0.1, 0.2, warmUp, steps);

        for (int step = 1; step <= steps; step++)
        {
            double change = schedule.At(step) - schedule.At(step - 1);
            Assert.True(step <= warmUp && step < steps ? change > 0 : step == warmUp || change <= 0, $"step {step}: {change}");
        }
    }

    [Theory]
    [InlineData(0, 0, 0, 0, 10)]
    [InlineData(double.NaN, 0, 0, 0, 10)]
    [InlineData(1, -1, 0, 0, 10)]
    [InlineData(1, 0, double.PositiveInfinity, 0, 10)]
    [InlineData(1, 0, 0, 11, 10)]
    [InlineData(1, 0, 0, 0, 0)]
    public void Refuses_what_is_no_schedule(double peak, double start, double end, int warmUp, int steps)
        => Assert.Throws<InvalidInputException>(() => new LearningRateSchedule(peak, start, end, warmUp, steps));
}
