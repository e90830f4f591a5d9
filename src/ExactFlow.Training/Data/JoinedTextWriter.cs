using ExactFlow.Tensors;

namespace ExactFlow.Training.Data;

/// <summary>Puts documents one after another into memory, a line feed at the end of each.</summary>
internal sealed class JoinedTextWriter : IDisposable
{
    private readonly MemoryStream all = new();
    private readonly List<long> ends = [];
    private bool isOpen;

    /// <summary>Adds to the document that is being written, or begins one.</summary>
    /// <param name="text">UTF-8.</param>
    /// <param name="path">Where it comes from, for the message.</param>
    /// <exception cref="InvalidInputException">Everything together is more than an array holds.</exception>
    public void Add(ReadOnlySpan<byte> text, string path)
    {
        if (all.Length + text.Length + 1 > Array.MaxLength)
        {
            throw new InvalidInputException($"The text is larger than {Array.MaxLength} bytes, with '{path}' at the latest; name fewer files, or pack them with 'exactflow data pack'.");
        }

        if (!isOpen)
        {
            EndLine();
            isOpen = true;
        }

        all.Write(text);
    }

    /// <summary>Ends the document that is being written.</summary>
    public void EndDocument()
    {
        if (isOpen)
        {
            ends.Add(all.Length);
            isOpen = false;
        }
    }

    /// <summary>All documents.</summary>
    /// <param name="endsLast">Whether the last one gets its line feed, too.</param>
    public JoinedText Finish(bool endsLast)
    {
        if (endsLast)
        {
            EndLine();
        }

        return new JoinedText(all, ends);
    }

    /// <inheritdoc/>
    public void Dispose() => all.Dispose();

    private void EndLine()
    {
        if (all.Length > 0 && all.GetBuffer()[all.Length - 1] != (byte)'\n')
        {
            all.WriteByte((byte)'\n');
            ends[^1] = all.Length;
        }
    }
}
