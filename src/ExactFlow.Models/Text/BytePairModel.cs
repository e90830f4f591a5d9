using ExactFlow.Tensors;

namespace ExactFlow.Models.Text;

/// <summary>
/// Byte-pair merges over a vocabulary of byte strings: a word starts as its single bytes, and as long as some neighbours have a merge, the earliest-learned one is
/// applied at its leftmost place (Sennrich et al., arXiv 1508.07909).
/// </summary>
internal sealed class BytePairModel
{
    /// <summary>Words of at most so many symbols are merged by repeated scans, which are faster than a heap there.</summary>
    private const int ScanLimit = 48;

    private readonly byte[][] tokens;
    private readonly int[] byteIds = new int[256];
    private readonly PairTable ranks;
    private readonly int[] mergedIds;

    /// <summary>Checks and indexes a vocabulary.</summary>
    /// <param name="tokens">The bytes of each id; empty for ids that are not in use.</param>
    /// <param name="merges">Pairs of ids, earliest-learned first.</param>
    /// <param name="isSpecial">Ids that merges never produce and single bytes never are.</param>
    /// <exception cref="InvalidInputException">A byte has no token, or a merge makes something that is not in the vocabulary.</exception>
    public BytePairModel(IReadOnlyList<byte[]> tokens, IReadOnlyList<(int Left, int Right)> merges, IReadOnlySet<int> isSpecial)
    {
        this.tokens = [.. tokens];
        Merges = merges;
        ByteStringTable byBytes = new();
        List<int> ids = [];
        for (int id = 0; id < tokens.Count; id++)
        {
            if (tokens[id].Length > 0 && !isSpecial.Contains(id))
            {
                _ = byBytes.GetOrAdd(tokens[id], out bool isNew);
                if (!isNew)
                {
                    throw new InvalidInputException($"The vocabulary holds '{ByteAlphabet.Write(tokens[id])}' twice, the second time as id {id}; remove one.");
                }

                ids.Add(id);
            }
        }

        for (int value = 0; value < 256; value++)
        {
            int index = byBytes.Find([(byte)value]);
            byteIds[value] = index >= 0 ? ids[index] : throw new InvalidInputException(
                $"The vocabulary has no token for the single byte 0x{value:X2} ('{ByteAlphabet.Write([(byte)value])}'); a byte-level tokenizer needs all 256.");
        }

        ranks = new PairTable(merges.Count);
        mergedIds = new int[merges.Count];
        for (int rank = 0; rank < merges.Count; rank++)
        {
            (int left, int right) = merges[rank];
            byte[] merged = [.. tokens[left], .. tokens[right]];
            int index = byBytes.Find(merged);
            if (index < 0 || ranks.GetOrAdd(left, right) != rank)
            {
                throw new InvalidInputException(
                    $"Merge {rank} of the vocabulary, '{ByteAlphabet.Write(tokens[left])} {ByteAlphabet.Write(tokens[right])}', {(index < 0 ? "makes a token that is not in it" : "stands twice")}; the file is damaged.");
            }

            mergedIds[rank] = ids[index];
        }
    }

    /// <summary>Number of ids.</summary>
    public int VocabularySize => tokens.Length;

    /// <summary>Pairs of ids, earliest-learned first.</summary>
    public IReadOnlyList<(int Left, int Right)> Merges { get; }

    /// <summary>The bytes of an id.</summary>
    public ReadOnlySpan<byte> Bytes(int id) => (uint)id < (uint)tokens.Length
        ? tokens[id]
        : throw new InvalidInputException($"Token id {id} is outside the vocabulary, whose ids are 0 to {tokens.Length - 1}; the ids come from another tokenizer.");

    /// <summary>Appends the ids of a word.</summary>
    public void Encode(ReadOnlySpan<byte> word, BytePairScratch scratch, ref IdBuffer output)
    {
        Span<int> symbols = scratch.Symbols(word.Length);
        for (int i = 0; i < word.Length; i++)
        {
            symbols[i] = byteIds[word[i]];
        }

        int count = word.Length <= ScanLimit ? MergeByScans(symbols) : MergeByHeap(symbols, scratch);
        output.Append(symbols[..count]);
    }

    private int RankOf(int left, int right)
    {
        int rank = ranks.Find(left, right);
        return rank < 0 ? int.MaxValue : rank;
    }

    private int MergeByScans(Span<int> symbols)
    {
        Span<int> pairRanks = stackalloc int[ScanLimit];
        int count = symbols.Length;
        for (int i = 0; i + 1 < count; i++)
        {
            pairRanks[i] = RankOf(symbols[i], symbols[i + 1]);
        }

        while (count > 1)
        {
            int best = 0;
            for (int i = 1; i + 1 < count; i++)
            {
                best = pairRanks[i] < pairRanks[best] ? i : best;
            }

            if (pairRanks[best] == int.MaxValue)
            {
                break;
            }

            symbols[best] = mergedIds[pairRanks[best]];
            symbols[(best + 2)..count].CopyTo(symbols[(best + 1)..]);
            pairRanks[(best + 1)..(count - 1)].CopyTo(pairRanks[best..]);
            count--;
            if (best > 0)
            {
                pairRanks[best - 1] = RankOf(symbols[best - 1], symbols[best]);
            }

            if (best + 1 < count)
            {
                pairRanks[best] = RankOf(symbols[best], symbols[best + 1]);
            }
        }

        return count;
    }

    /// <summary>Symbols form a linked list; candidates wait in a heap by (rank, place) and are dropped when their symbols have changed meanwhile.</summary>
    private int MergeByHeap(Span<int> symbols, BytePairScratch scratch)
    {
        int count = symbols.Length;
        Span<int> next = scratch.Next(count);
        Span<int> previous = scratch.Previous(count);
        PriorityQueue<long, long> heap = scratch.Heap;
        heap.Clear();
        for (int i = 0; i < count; i++)
        {
            next[i] = i + 1;
            previous[i] = i - 1;
            Offer(symbols, next, i);
        }

        while (heap.TryDequeue(out _, out long candidate))
        {
            int place = (int)(uint)candidate;
            int rank = (int)(candidate >> 32);
            int right = symbols[place] < 0 ? count : next[place];
            if (right >= count || RankOf(symbols[place], symbols[right]) != rank)
            {
                continue;
            }

            symbols[place] = mergedIds[rank];
            symbols[right] = -1;
            next[place] = next[right];
            if (next[place] < count)
            {
                previous[next[place]] = place;
            }

            Offer(symbols, next, place);
            if (previous[place] >= 0)
            {
                Offer(symbols, next, previous[place]);
            }
        }

        int kept = 0;
        for (int i = 0; i < count; i = next[i])
        {
            symbols[kept++] = symbols[i];
        }

        return kept;

        void Offer(Span<int> all, Span<int> following, int place)
        {
            int rank = following[place] < all.Length ? RankOf(all[place], all[following[place]]) : int.MaxValue;
            if (rank != int.MaxValue)
            {
                long candidate = ((long)rank << 32) | (uint)place;
                heap.Enqueue(candidate, candidate);
            }
        }
    }
}
