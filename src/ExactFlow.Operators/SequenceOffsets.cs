using ExactFlow.Tensors;

namespace ExactFlow.Operators;

/// <summary>
/// Where the documents of a packed row begin and end (<c>cu_seqlens</c> elsewhere): offsets[0] = 0, non-decreasing, the last one the row's length.
/// Packed inputs have batch 1; document i is tokens [offsets[i], offsets[i + 1]); recurrent state and convolutions restart at each boundary.
/// </summary>
public sealed class SequenceOffsets
{
    private readonly int[] offsets;

    /// <summary>Checks and copies the offsets.</summary>
    /// <exception cref="InvalidInputException">Fewer than two, not starting at 0, or decreasing.</exception>
    public SequenceOffsets(ReadOnlySpan<int> offsets)
    {
        if (offsets.Length < 2 || offsets[0] != 0)
        {
            throw new InvalidInputException("Sequence offsets (cu_seqlens) must start at 0 and have one more entry than there are documents.");
        }

        for (int i = 1; i < offsets.Length; i++)
        {
            if (offsets[i] < offsets[i - 1])
            {
                throw new InvalidInputException($"Sequence offsets (cu_seqlens) must not decrease, but entry {i} is {offsets[i]} after {offsets[i - 1]}.");
            }
        }

        this.offsets = offsets.ToArray();
    }

    /// <summary>Number of documents.</summary>
    public int Count => offsets.Length - 1;

    /// <summary>Tokens of all documents together.</summary>
    public int TotalLength => offsets[^1];

    /// <summary>The offsets, one more than there are documents.</summary>
    public ReadOnlySpan<int> Span => offsets;

    /// <summary>First token of a document.</summary>
    public int Start(int document) => offsets[document];

    /// <summary>One past the last token of a document.</summary>
    public int End(int document) => offsets[document + 1];
}
