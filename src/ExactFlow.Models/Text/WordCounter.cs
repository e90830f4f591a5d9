using System.Collections.Concurrent;
using ExactFlow.Models.Text.PreTokenizers;

namespace ExactFlow.Models.Text;

/// <summary>The distinct words of texts and how often each occurs, counted on several threads.</summary>
internal sealed class WordCounter
{
    private const int PartBytes = 1 << 20;
    private long[] counts = new long[1024];

    /// <summary>The words.</summary>
    public ByteStringTable Words { get; } = new();

    /// <summary>How often each word occurs, by its number.</summary>
    public ReadOnlySpan<long> Counts => counts.AsSpan(0, Words.Count);

    /// <summary>Counts the words of texts. The order of the words depends on the threads, their counts do not.</summary>
    /// <param name="texts">UTF-8 texts; a word does not reach from one into the next.</param>
    /// <param name="preTokenizer">Cuts words.</param>
    /// <param name="special">Tokens that are cut out first and not counted.</param>
    /// <param name="threads">Threads to use.</param>
    public static WordCounter Count(IEnumerable<ReadOnlyMemory<byte>> texts, WordScanner preTokenizer, AddedTokens special, int threads)
    {
        WordCounter total = new();
        IEnumerable<ReadOnlyMemory<byte>> parts = texts.SelectMany(text => Parts(text, preTokenizer, special));
        Parallel.ForEach(
            Partitioner.Create(parts, EnumerablePartitionerOptions.NoBuffering),
            new ParallelOptions { MaxDegreeOfParallelism = threads },
            () => new WordCounter(),
            (part, _, counter) =>
            {
                counter.AddPart(part.Span, preTokenizer);
                return counter;
            },
            counter =>
            {
                lock (total)
                {
                    total.Add(counter);
                }
            });
        return total;
    }

    /// <summary>Parts of about a megabyte, cut where a word is sure to begin and at special tokens.</summary>
    internal static IEnumerable<ReadOnlyMemory<byte>> Parts(ReadOnlyMemory<byte> text, WordScanner preTokenizer, AddedTokens special)
    {
        int position = 0;
        foreach ((int start, int end) in Tokens(text.Span, special))
        {
            foreach (ReadOnlyMemory<byte> part in PlainParts(text[position..start], preTokenizer))
            {
                yield return part;
            }

            position = end;
        }

        foreach (ReadOnlyMemory<byte> part in PlainParts(text[position..], preTokenizer))
        {
            yield return part;
        }
    }

    private static List<(int Start, int End)> Tokens(ReadOnlySpan<byte> text, AddedTokens special)
    {
        List<(int, int)> found = [];
        AddedTokens.Search search = special.In(text, recogniseSpecial: true);
        while (search.MoveNext())
        {
            found.Add((search.Start, search.End));
        }

        return found;
    }

    private static IEnumerable<ReadOnlyMemory<byte>> PlainParts(ReadOnlyMemory<byte> plain, WordScanner preTokenizer)
    {
        while (!plain.IsEmpty)
        {
            int cut = plain.Length <= PartBytes ? plain.Length : preTokenizer.SafeCut(plain.Span, PartBytes);
            yield return plain[..cut];
            plain = plain[cut..];
        }
    }

    private void AddPart(ReadOnlySpan<byte> text, WordScanner preTokenizer)
    {
        for (int start = 0; start < text.Length;)
        {
            int end = preTokenizer.WordEnd(text, start);
            Add(text[start..end], 1);
            start = end;
        }
    }

    private void Add(WordCounter other)
    {
        for (int i = 0; i < other.Words.Count; i++)
        {
            Add(other.Words[i], other.counts[i]);
        }
    }

    private void Add(ReadOnlySpan<byte> word, long count)
    {
        int index = Words.GetOrAdd(word, out bool isNew);
        if (isNew && index == counts.Length)
        {
            Array.Resize(ref counts, 2 * index);
        }

        counts[index] = isNew ? count : counts[index] + count;
    }
}
