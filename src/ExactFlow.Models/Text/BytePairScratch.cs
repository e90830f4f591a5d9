using ExactFlow.Models.Text.PreTokenizers;

namespace ExactFlow.Models.Text;

/// <summary>
/// What one thread needs to encode: work arrays, and the ids of the words met last, since texts consist of few different words. When the cache is
/// full it is emptied.
/// </summary>
/// <param name="model">Encodes words.</param>
internal sealed class BytePairScratch(BytePairModel model) : IWordSink
{
    private const int CachedWords = 1 << 16;
    private const int LongestCachedWord = 48;

    private readonly ShortWordCache shortWords = new();
    private readonly ByteStringTable words = new();
    private (int Start, int Count)[] cachedRanges = new (int, int)[1024];
    private IdBuffer cachedIds = new(8192);
    private IdBuffer output = new(1024);
    private int[] symbols = new int[256];
    private int[] next = [];
    private int[] previous = [];

    /// <summary>Merge candidates of a long word.</summary>
    public PriorityQueue<long, long> Heap { get; } = new();

    /// <summary>Work array for a word's symbols.</summary>
    public Span<int> Symbols(int count) => Of(ref symbols, count);

    /// <summary>Work array for links to the following symbol.</summary>
    public Span<int> Next(int count) => Of(ref next, count);

    /// <summary>Work array for links to the preceding symbol.</summary>
    public Span<int> Previous(int count) => Of(ref previous, count);

    /// <summary>Ids of the text at work.</summary>
    public ref IdBuffer Output => ref output;

    /// <summary>Appends the ids of a word to the output, from the cache if it was met before.</summary>
    public void Take(ReadOnlySpan<byte> word, bool isAtStart)
    {
        if (word.Length > ShortWordCache.LongestWord)
        {
            AppendKnownOrMerge(word);
            return;
        }

        if (!shortWords.TryAppend(word, ref output, out int slot))
        {
            int before = output.Count;
            AppendKnownOrMerge(word);
            shortWords.Remember(word, output.Span[before..], slot);
        }
    }

    private void AppendKnownOrMerge(ReadOnlySpan<byte> word)
    {
        if (word.Length > LongestCachedWord)
        {
            model.Encode(word, this, ref output);
            return;
        }

        int index = words.GetOrAdd(word, out bool isNew);
        if (isNew)
        {
            if (index == cachedRanges.Length)
            {
                Array.Resize(ref cachedRanges, 2 * index);
            }

            int start = cachedIds.Count;
            model.Encode(word, this, ref cachedIds);
            cachedRanges[index] = (start, cachedIds.Count - start);
        }

        (int first, int count) = cachedRanges[index];
        output.Append(cachedIds.Span.Slice(first, count));
        if (words.Count == CachedWords)
        {
            words.Clear();
            cachedIds.Clear();
        }
    }

    private static Span<int> Of(ref int[] array, int count)
    {
        if (array.Length < count)
        {
            array = new int[Math.Max(count, 2 * array.Length)];
        }

        return array.AsSpan(0, count);
    }
}
