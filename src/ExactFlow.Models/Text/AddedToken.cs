namespace ExactFlow.Models.Text;

/// <summary>A token that is recognised in the text itself, whatever merges would make of it.</summary>
/// <param name="Id">Its id.</param>
/// <param name="Content">Its text.</param>
public sealed record AddedToken(int Id, string Content)
{
    /// <summary>Whether it counts only where no character of a word touches it.</summary>
    public bool SingleWord { get; init; }

    /// <summary>Whether it swallows the white space before it.</summary>
    public bool LeftStrip { get; init; }

    /// <summary>Whether it swallows the white space after it.</summary>
    public bool RightStrip { get; init; }

    /// <summary>Whether it is looked for after the normalizer, which its content goes through too, or before.</summary>
    public bool Normalized { get; init; }

    /// <summary>Whether it controls a model rather than standing for text.</summary>
    public bool IsSpecial { get; init; }
}
