using System.Runtime.InteropServices;

namespace ExactFlow.Models.Text;

/// <summary>
/// Learns byte-pair merges from counted words: again and again the most frequent pair of neighbours becomes one token; of equally frequent pairs the one whose bytes
/// are lexicographically greatest (first by the left token, then by the right) is taken, so that the result depends on the counts alone.
/// </summary>
/// <remarks>
/// Counts of pairs are kept up to date instead of being counted again: a merge visits only the words in which its pair occurs, through a list of words per pair.
/// The heap is lazy: an entry whose count is no longer true is put back with the true one when it comes to the top.
/// </remarks>
internal sealed class MergeLearner
{
    /// <summary>A pair that occurs once compresses nothing.</summary>
    private const int SmallestCount = 2;

    private readonly ByteStringTable byBytes = new();
    private readonly List<byte[]> tokens = [];
    private readonly List<(int Left, int Right)> merges = [];
    private readonly int[] symbols;
    private readonly int[] starts;
    private readonly int[] lengths;
    private readonly long[] wordCounts;

    private readonly PairTable pairs = new(1 << 16);
    private readonly List<long> pairCounts = [];
    private readonly List<int> lastOccurrence = [];
    private readonly List<Occurrence> occurrences = [];
    private readonly PriorityQueue<int, Candidate> heap;
    private readonly List<int> grownPairs = [];

    /// <summary>Words as bytes, and the counts of their pairs.</summary>
    public MergeLearner(WordCounter words)
    {
        for (int value = 0; value < 256; value++)
        {
            AddToken([(byte)value]);
        }

        starts = new int[words.Words.Count];
        lengths = new int[starts.Length];
        wordCounts = words.Counts.ToArray();
        int total = 0;
        for (int word = 0; word < starts.Length; word++)
        {
            starts[word] = total;
            lengths[word] = words.Words[word].Length;
            total += lengths[word];
        }

        symbols = new int[total];
        for (int word = 0; word < starts.Length; word++)
        {
            ReadOnlySpan<byte> bytes = words.Words[word];
            for (int i = 0; i < bytes.Length; i++)
            {
                symbols[starts[word] + i] = bytes[i];
            }

            for (int i = 0; i + 1 < bytes.Length; i++)
            {
                Change(bytes[i], bytes[i + 1], wordCounts[word], word);
            }
        }

        heap = new PriorityQueue<int, Candidate>(Comparer<Candidate>.Create(CompareCandidates));
        OfferGrownPairs();
    }

    /// <summary>The bytes of each token: 256 single ones in order of their values, then what merges made.</summary>
    public IReadOnlyList<byte[]> Tokens => tokens;

    /// <summary>Pairs of token numbers, in the order they were learned.</summary>
    public IReadOnlyList<(int Left, int Right)> Merges => merges;

    /// <summary>Learns merges until there are so many tokens, or no pair occurs twice.</summary>
    public void Learn(int tokenCount)
    {
        while (tokens.Count < tokenCount && heap.TryDequeue(out int pair, out Candidate candidate))
        {
            long count = pairCounts[pair];
            if (count != candidate.Count)
            {
                Offer(pair, count);
                continue;
            }

            (int left, int right) = pairs[pair];
            merges.Add((left, right));
            int merged = AddToken([.. tokens[left], .. tokens[right]]);
            for (int i = lastOccurrence[pair]; i >= 0; i = occurrences[i].Before)
            {
                MergeInWord(occurrences[i].Word, left, right, merged);
            }

            lastOccurrence[pair] = -1;
            pairCounts[pair] = 0;
            OfferGrownPairs();
        }
    }

    /// <summary>The number of a token, a new one unless another merge has made the same bytes before.</summary>
    private int AddToken(byte[] bytes)
    {
        int index = byBytes.GetOrAdd(bytes, out bool isNew);
        if (isNew)
        {
            tokens.Add(bytes);
        }

        return index;
    }

    private void MergeInWord(int word, int left, int right, int merged)
    {
        Span<int> symbolsOfWord = symbols.AsSpan(starts[word], lengths[word]);
        long count = wordCounts[word];
        int kept = 0;
        for (int i = 0; i < symbolsOfWord.Length;)
        {
            if (i + 1 == symbolsOfWord.Length || symbolsOfWord[i] != left || symbolsOfWord[i + 1] != right)
            {
                symbolsOfWord[kept++] = symbolsOfWord[i++];
                continue;
            }

            if (kept > 0)
            {
                Change(symbolsOfWord[kept - 1], left, -count, word);
                Change(symbolsOfWord[kept - 1], merged, count, word);
            }

            if (i + 2 < symbolsOfWord.Length)
            {
                Change(right, symbolsOfWord[i + 2], -count, word);
                Change(merged, symbolsOfWord[i + 2], count, word);
            }

            symbolsOfWord[kept++] = merged;
            i += 2;
        }

        lengths[word] = kept;
    }

    private void Change(int left, int right, long difference, int word)
    {
        int pair = pairs.GetOrAdd(left, right);
        if (pair == pairCounts.Count)
        {
            pairCounts.Add(0);
            lastOccurrence.Add(-1);
        }

        pairCounts[pair] += difference;
        if (difference < 0)
        {
            return;
        }

        grownPairs.Add(pair);
        int last = lastOccurrence[pair];
        if (last < 0 || occurrences[last].Word != word)
        {
            lastOccurrence[pair] = occurrences.Count;
            occurrences.Add(new Occurrence(word, last));
        }
    }

    /// <summary>Puts the pairs that became more frequent into the heap, each once.</summary>
    private void OfferGrownPairs()
    {
        Span<int> grown = CollectionsMarshal.AsSpan(grownPairs);
        grown.Sort();
        int previous = -1;
        foreach (int pair in grown)
        {
            if (pair != previous)
            {
                Offer(pair, pairCounts[pair]);
            }

            previous = pair;
        }

        grownPairs.Clear();
    }

    private void Offer(int pair, long count)
    {
        if (count >= SmallestCount)
        {
            (int left, int right) = pairs[pair];
            heap.Enqueue(pair, new Candidate(count, left, right));
        }
    }

    private int CompareCandidates(Candidate x, Candidate y)
    {
        if (x.Count != y.Count)
        {
            return y.Count.CompareTo(x.Count);
        }

        int order = x.Left == y.Left ? 0 : tokens[y.Left].AsSpan().SequenceCompareTo(tokens[x.Left]);
        return order != 0 || x.Right == y.Right ? order : tokens[y.Right].AsSpan().SequenceCompareTo(tokens[x.Right]);
    }

    private readonly record struct Candidate(long Count, int Left, int Right);

    /// <summary>A word in which a pair occurs or did, and the index of the one noted before it.</summary>
    private readonly record struct Occurrence(int Word, int Before);
}
