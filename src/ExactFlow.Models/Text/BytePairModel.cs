using System.Text;
using ExactFlow.Tensors;

namespace ExactFlow.Models.Text;

/// <summary>
/// Byte-pair merges over a vocabulary of byte strings: a word starts as its single bytes or characters, and as long as some neighbours have a merge, the
/// earliest-learned one is applied at its leftmost place (Sennrich et al., arXiv 1508.07909).
/// </summary>
internal sealed class BytePairModel
{
    /// <summary>Words of at most so many symbols are merged by repeated scans, which are faster than a heap there.</summary>
    private const int ScanLimit = 48;

    private readonly BytePairSettings settings;
    private readonly ByteStringTable byBytes = new();
    private readonly List<int> ids = [];
    private readonly int[] byteIds = new int[256];
    private readonly int unknownId = -1;
    private readonly PairTable ranks;
    private readonly int[] mergedIds;

    /// <summary>Checks and indexes a vocabulary.</summary>
    /// <param name="tokens">The bytes of each id in words; empty for ids that no word has.</param>
    /// <param name="merges">Pairs of ids, earliest-learned first.</param>
    /// <param name="settings">What it does beside merging.</param>
    /// <param name="unknownId">Id of the unknown token, or -1.</param>
    /// <exception cref="InvalidInputException">A byte of a byte-level vocabulary has no token, or a merge makes something that is not in the vocabulary.</exception>
    public BytePairModel(IReadOnlyList<byte[]> tokens, IReadOnlyList<(int Left, int Right)> merges, BytePairSettings settings, int unknownId)
    {
        this.settings = settings;
        this.unknownId = unknownId;
        for (int id = 0; id < tokens.Count; id++)
        {
            if (tokens[id].Length > 0)
            {
                _ = byBytes.GetOrAdd(tokens[id], out bool isNew);
                ids.Add(isNew ? id : throw new InvalidInputException($"the vocabulary holds '{Written(tokens[id])}' twice, the second time as id {id}; remove one."));
            }
        }

        for (int value = 0; value < 256; value++)
        {
            byteIds[value] = settings.IsByteLevel ? IdOf([(byte)value]) : settings.ByteFallback ? IdOf(Encoding.ASCII.GetBytes($"<0x{value:X2}>")) : -1;
            if (settings.IsByteLevel && byteIds[value] < 0 && !IsNeverInUtf8(value))
            {
                throw new InvalidInputException(
                    $"the vocabulary has no token for the single byte 0x{value:X2} ('{ByteAlphabet.Write([(byte)value])}'); a byte-level tokenizer needs all that UTF-8 has.");
            }
        }

        ranks = new PairTable(merges.Count);
        mergedIds = new int[merges.Count];
        for (int rank = 0; rank < merges.Count; rank++)
        {
            (int left, int right) = merges[rank];
            mergedIds[rank] = tokens[left].Length == 0 || tokens[right].Length == 0 ? -1 : IdOf([.. tokens[left], .. tokens[right]]);
            if (mergedIds[rank] < 0 || ranks.GetOrAdd(left, right) != rank)
            {
                throw new InvalidInputException(
                    $"merge {rank} of the vocabulary, '{Written(tokens[left])} {Written(tokens[right])}', {(mergedIds[rank] < 0 ? "makes a token that is not in it" : "stands twice")}; the file is damaged.");
            }
        }

        Merges = merges;
    }

    /// <summary>Pairs of ids, earliest-learned first.</summary>
    public IReadOnlyList<(int Left, int Right)> Merges { get; }

    /// <summary>
    /// Whether words may be cut where no merge reaches across: no character may vanish, so that others would meet, and words must not be looked up whole.
    /// </summary>
    public bool AllowsCuts => !settings.IgnoreMerges && (settings.IsByteLevel || unknownId >= 0 || !byteIds.Contains(-1));

    /// <summary>Whether a string of bytes is a token of its own.</summary>
    public bool IsToken(ReadOnlySpan<byte> token) => IdOf(token) >= 0;

    /// <summary>Appends the ids of a word.</summary>
    public void Encode(ReadOnlySpan<byte> word, BytePairScratch scratch, ref IdBuffer output)
    {
        if (settings.IgnoreMerges && IdOf(word) is >= 0 and int whole)
        {
            output.Append(whole);
            return;
        }

        Span<int> symbols = scratch.Symbols(word.Length);
        if (settings.IsByteLevel)
        {
            for (int i = 0; i < word.Length; i++)
            {
                symbols[i] = byteIds[word[i]];
            }

            if (symbols.Contains(-1))
            {
                Encode(WithReplacements(word), scratch, ref output);
                return;
            }
        }
        else
        {
            symbols = symbols[..ReadCharacters(word, symbols)];
        }

        int count = symbols.Length <= ScanLimit ? MergeByScans(symbols) : MergeByHeap(symbols, scratch);
        output.Append(symbols[..count]);
    }

    private static bool IsNeverInUtf8(int value) => value is 0xC0 or 0xC1 or >= 0xF5;

    /// <summary>Bytes that the vocabulary lacks, which no valid text has, as U+FFFD.</summary>
    private byte[] WithReplacements(ReadOnlySpan<byte> word)
    {
        List<byte> replaced = [];
        foreach (byte value in word)
        {
            replaced.AddRange(byteIds[value] >= 0 ? [value] : "\uFFFD"u8);
        }

        return [.. replaced];
    }

    private string Written(ReadOnlySpan<byte> token) => settings.IsByteLevel ? ByteAlphabet.Write(token) : Encoding.UTF8.GetString(token);

    private int IdOf(ReadOnlySpan<byte> token) => byBytes.Find(token) is >= 0 and int index ? ids[index] : -1;

    /// <summary>
    /// The characters of a word as symbols: their own, else those of their bytes, else the unknown token, which waits for the next character that is known
    /// (the order in which the reference implementation puts them).
    /// </summary>
    private int ReadCharacters(ReadOnlySpan<byte> word, Span<int> symbols)
    {
        int count = 0, unknown = 0;
        for (int length; !word.IsEmpty; word = word[length..])
        {
            bool isCharacter = Rune.DecodeFromUtf8(word, out _, out length) == System.Buffers.OperationStatus.Done;
            ReadOnlySpan<byte> character = isCharacter || settings.ByteFallback ? word[..length] : "\uFFFD"u8;
            int id = IdOf(character);
            if (id >= 0)
            {
                symbols[count..(count + unknown)].Fill(unknownId);
                count += unknown;
                unknown = 0;
                symbols[count++] = id;
            }
            else if (!TryAddBytes(character, symbols, ref count) && unknownId >= 0)
            {
                unknown = settings.FuseUnknown ? 1 : unknown + 1;
            }
        }

        symbols[count..(count + unknown)].Fill(unknownId);
        return count + unknown;
    }

    private bool TryAddBytes(ReadOnlySpan<byte> character, Span<int> symbols, ref int count)
    {
        foreach (byte value in character)
        {
            if (byteIds[value] < 0)
            {
                return false;
            }
        }

        foreach (byte value in character)
        {
            symbols[count++] = byteIds[value];
        }

        return true;
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
