namespace ExactFlow.Training.Packing;

/// <summary>Documents of tokens one after another, wherever they lie. Safe for several threads.</summary>
internal interface ITokenSequence
{
    /// <summary>Number of tokens.</summary>
    long Count { get; }

    /// <summary>SHA-256 that tells whether a run goes on with the tokens it was begun with.</summary>
    string ContentHash();

    /// <summary>Copies tokens.</summary>
    void Copy(long start, Span<int> destination);

    /// <summary>Adds where documents begin inside a window, not at its first token: positions within the window plus <paramref name="origin"/>, ascending.</summary>
    /// <param name="start">The window's first token.</param>
    /// <param name="length">The window's tokens.</param>
    /// <param name="origin">What to add to each position.</param>
    /// <param name="starts">Receives them.</param>
    void AddDocumentStarts(long start, int length, int origin, List<int> starts);
}
