namespace ExactFlow.Training.Data;

/// <summary>Finds where entries end in the part of a file that has been read.</summary>
internal abstract class EntrySplitter
{
    /// <summary>The splitter of a format.</summary>
    /// <param name="format">What the file holds.</param>
    /// <param name="documentStart">UTF-8 with which the first line of every document of a text begins; empty where a file is one document.</param>
    public static EntrySplitter For(CorpusFormat format, ReadOnlyMemory<byte> documentStart)
        => format == CorpusFormat.JsonLines ? new Lines() : documentStart.IsEmpty ? new Whole() : new Marked(documentStart);

    /// <summary>Whether an entry that outgrows all bounds may be cut in two.</summary>
    public abstract bool MayCut { get; }

    /// <summary>Adds the ends, ascending, of entries that are known to be complete although the file goes on.</summary>
    /// <param name="bytes">What has been read since the last entry's end.</param>
    /// <param name="ends">Receives the ends.</param>
    public abstract void AddEnds(ReadOnlySpan<byte> bytes, List<int> ends);

    /// <summary>A place to cut an entry that is too long: behind the last line, the last word, or the last whole character.</summary>
    public static int Cut(ReadOnlySpan<byte> bytes)
    {
        int line = bytes.LastIndexOf((byte)'\n');
        int blank = line > 0 ? line : bytes.LastIndexOf((byte)' ') - 1;
        if (blank > 0)
        {
            return blank + 1;
        }

        int end = bytes.Length;
        while (end > bytes.Length - 4 && (bytes[end - 1] & 0xC0) == 0x80)
        {
            end--;
        }

        // The byte before the continuation bytes begins the last character, of which the rest may not have been read yet.
        return Math.Max(1, end - 1);
    }

    private sealed class Lines : EntrySplitter
    {
        public override bool MayCut => false;

        public override void AddEnds(ReadOnlySpan<byte> bytes, List<int> ends)
        {
            for (int start = 0; ;)
            {
                int length = bytes[start..].IndexOf((byte)'\n');
                if (length < 0)
                {
                    return;
                }

                start += length + 1;
                ends.Add(start);
            }
        }
    }

    private sealed class Whole : EntrySplitter
    {
        public override bool MayCut => true;

        public override void AddEnds(ReadOnlySpan<byte> bytes, List<int> ends)
        {
        }
    }

    private sealed class Marked(ReadOnlyMemory<byte> start) : EntrySplitter
    {
        private readonly byte[] mark = [(byte)'\n', .. start.Span];

        public override bool MayCut => true;

        public override void AddEnds(ReadOnlySpan<byte> bytes, List<int> ends)
        {
            for (int from = 0; ;)
            {
                int found = bytes[from..].IndexOf(mark);
                if (found < 0)
                {
                    return;
                }

                from += found + 1;
                ends.Add(from);
            }
        }
    }
}
