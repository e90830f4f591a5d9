namespace ExactFlow.Training.Data;

/// <summary>Documents one after another in one array.</summary>
internal sealed class JoinedText
{
    private readonly byte[] bytes;
    private readonly List<int> ends = [];

    /// <summary>Takes the documents written to a stream.</summary>
    /// <param name="text">All documents.</param>
    /// <param name="ends">Where each ends, ascending; empty documents are left out.</param>
    public JoinedText(MemoryStream text, IEnumerable<long> ends)
    {
        bytes = text.ToArray();
        foreach (long end in ends)
        {
            if (end > (this.ends.Count == 0 ? 0 : this.ends[^1]))
            {
                this.ends.Add((int)end);
            }
        }
    }

    /// <summary>All documents.</summary>
    public ReadOnlyMemory<byte> Bytes => bytes;

    /// <summary>The documents, or what of them lies in [<paramref name="from"/>, <paramref name="to"/>).</summary>
    public IReadOnlyList<ReadOnlyMemory<byte>> Documents(int from = 0, int to = int.MaxValue)
    {
        List<ReadOnlyMemory<byte>> documents = [];
        int begin = 0;
        foreach (int end in ends)
        {
            int first = Math.Max(begin, from), last = Math.Min(end, to);
            if (first < last)
            {
                documents.Add(bytes.AsMemory(first..last));
            }

            begin = end;
        }

        return documents;
    }
}
