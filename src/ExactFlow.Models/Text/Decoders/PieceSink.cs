namespace ExactFlow.Models.Text.Decoders;

/// <summary>
/// Takes the text of tokens piece by piece. A token may come in several pieces: after a stage that joins all tokens to one, only the first piece begins a token. Whole
/// and streaming decoding both go this way, so they cannot differ.
/// </summary>
internal abstract class PieceSink
{
    /// <summary>Takes a piece.</summary>
    /// <param name="text">Its text, valid during the call.</param>
    /// <param name="beginsToken">Whether it is a token, or the first piece of one.</param>
    public abstract void Take(ReadOnlySpan<char> text, bool beginsToken);

    /// <summary>Takes the end: gives on what was kept back.</summary>
    public abstract void Finish();
}
