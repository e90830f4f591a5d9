using ExactFlow.Tensors;

namespace ExactFlow.Training.Tests;

public class TokenStreamTests
{
    private static TokenStream Counting(int tokens, int length, ulong seed = 1, int first = 0)
        => new([.. Enumerable.Range(first, tokens)], length, seed);

    [Theory]
    [InlineData(101, 10, 0)]
    [InlineData(107, 10, 0)]
    [InlineData(107, 10, 70_000)]
    [InlineData(2, 1, 0)]
    [InlineData(64, 63, 0)]
    public void Every_epoch_deals_each_window_once_with_targets_one_ahead(int tokens, int length, int first)
    {
        TokenStream stream = Counting(tokens, length, first: first);
        int[] inputs = new int[length];
        int[] targets = new int[length];
        for (int epoch = 0; epoch < 3; epoch++)
        {
            var starts = new SortedSet<int>();
            for (int window = 0; window < stream.WindowsPerEpoch; window++)
            {
                stream.Read((epoch * stream.WindowsPerEpoch) + window, inputs, targets);
                Assert.Equal(Enumerable.Range(inputs[0], length), inputs);
                Assert.Equal(inputs.Select(token => token + 1), targets);
                Assert.InRange(targets[^1], first, first + tokens - 1);
                Assert.True(starts.Add(inputs[0]));
            }

            Assert.All(starts.Zip(starts.Skip(1)), pair => Assert.Equal(length, pair.Second - pair.First));
        }
    }

    [Fact]
    public void Position_alone_decides_what_is_read()
    {
        TokenStream straight = Counting(1003, 10, seed: 7);
        TokenStream jumping = Counting(1003, 10, seed: 7);
        int[] inputs = new int[30];
        int[] targets = new int[30];
        int[] again = new int[30];
        foreach (long position in (long[])[0, 3, 297, 99, 98, 300, 0])
        {
            // Three windows one at a time from one stream, all at once from the other; 99 + 1 crosses an epoch.
            for (int i = 0; i < 3; i++)
            {
                straight.Read(position + i, inputs.AsSpan(i * 10, 10), targets.AsSpan(i * 10, 10));
            }

            jumping.Read(position, again, new int[30]);
            Assert.Equal(inputs, again);
        }
    }

    [Fact]
    public void Order_changes_with_seed_and_epoch()
    {
        TokenStream one = Counting(1001, 10, seed: 1);
        TokenStream other = Counting(1001, 10, seed: 2);
        int[] Order(TokenStream stream, int epoch)
        {
            int[] inputs = new int[1000];
            stream.Read(epoch * 100, inputs, new int[1000]);
            return [.. inputs.Chunk(10).Select(window => window[0])];
        }

        Assert.NotEqual(Order(one, 0), Order(one, 1));
        Assert.NotEqual(Order(one, 0), Order(other, 0));
        Assert.NotEqual(Order(one, 0), Order(one, 0).Order());
        Assert.Equal(Order(one, 0), Order(Counting(1001, 10, seed: 1), 0));
    }

    [Fact]
    public void Validation_windows_are_fixed_and_spread_over_the_text()
    {
        TokenStream stream = Counting(1001, 10);
        int[] inputs = new int[40];
        stream.ReadFixed(0, 4, inputs, new int[40]);
        Assert.Equal([0, 250, 500, 750], inputs.Chunk(10).Select(window => window[0]));

        int[] part = new int[20];
        stream.ReadFixed(2, 4, part, new int[20]);
        Assert.Equal(inputs[20..], part);
    }

    [Fact]
    public void A_text_shorter_than_a_window_is_refused_with_both_lengths()
    {
        var error = Assert.Throws<InvalidInputException>(() => Counting(10, 10));
        Assert.Contains("10 tokens", error.Message, StringComparison.Ordinal);
        Assert.Contains("needs 11", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Reading_within_an_epoch_allocates_nothing()
    {
        TokenStream stream = Counting(10_001, 10);
        int[] inputs = new int[80];
        int[] targets = new int[80];
        stream.Read(0, inputs, targets);
        long before = GC.GetAllocatedBytesForCurrentThread();
        for (long position = 8; position < 800; position += 8)
        {
            stream.Read(position, inputs, targets);
        }

        Assert.Equal(before, GC.GetAllocatedBytesForCurrentThread());
    }
}
