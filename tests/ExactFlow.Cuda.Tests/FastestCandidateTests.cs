namespace ExactFlow.Cuda.Tests;

/// <summary>The choice among algorithms, with times that are made up.</summary>
public sealed class FastestCandidateTests
{
    [Theory]
    [InlineData(0, 1.0)]
    [InlineData(0, 1.0, 1.2, 1.1)]
    [InlineData(2, 1.0, 1.2, 0.9)]
    [InlineData(0, 1.0, 0.995, 0.999)] // noise
    [InlineData(1, 1.0, 0.8, 0.8)]
    [InlineData(2, -1.0, 3.0, 2.0, -1.0)] // those below zero refuse
    [InlineData(0, -1.0, -1.0)]
    public void The_fastest_is_taken_when_it_is_clearly_faster(int expected, params double[] milliseconds) => Assert.Equal(expected, Choose(milliseconds, out _));

    [Fact]
    public void A_slow_turn_does_not_count()
    {
        int turn = 0;
        int chosen = FastestCandidate.Of(2, 1e12, _ => true, work =>
        {
            work();
            return TimeSpan.FromMilliseconds(turn++ switch { 0 or 3 => 10, var n => n % 2 == 0 ? 2 : 1 });
        });
        Assert.Equal(1, chosen);
    }

    [Fact]
    public void One_that_refuses_later_is_left_out()
    {
        int calls = 0;
        int chosen = FastestCandidate.Of(2, 1e12, candidate => candidate == 0 || ++calls < 3, work =>
        {
            work();
            return TimeSpan.FromMilliseconds(calls >= 1 ? 1 : 2);
        });
        Assert.Equal(0, chosen);
    }

    [Theory]
    [InlineData(1e12, 1)]
    [InlineData(5e10, 4)]
    [InlineData(1e9, 40)]
    public void Short_work_is_repeated(double operations, int repetitions)
    {
        var queued = new int[1];
        _ = FastestCandidate.Of(1, operations, candidate => ++queued[candidate] > 0, work =>
        {
            work();
            return TimeSpan.FromTicks(1);
        });
        Assert.Equal(1 + (5 * repetitions), queued[0]);
    }

    private static int Choose(double[] milliseconds, out List<int> queued)
    {
        List<int> all = [];
        queued = all;
        return FastestCandidate.Of(
            milliseconds.Length,
            1e12,
            candidate =>
            {
                all.Add(candidate);
                return milliseconds[candidate] >= 0;
            },
            work =>
            {
                work();
                return TimeSpan.FromMilliseconds(milliseconds[all[^1]]);
            });
    }
}
