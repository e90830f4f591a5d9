using ExactFlow.Models.Text.Decoders;

namespace ExactFlow.Models.Text;

/// <summary>
/// Turns ids into text one at a time, as they are generated: a character whose bytes come in several tokens appears when it is complete. All pieces together are what
/// <see cref="BytePairTokenizer.Decode"/> gives for all ids.
/// </summary>
public sealed class TextDecoder
{
    private readonly BytePairTokenizer tokenizer;
    private readonly bool skipSpecialTokens;
    private readonly TextSink text = new();
    private readonly PieceSink first;

    /// <summary>A decoder at the start of a text.</summary>
    /// <param name="tokenizer">Knows the tokens of the ids.</param>
    /// <param name="skipSpecialTokens">Whether special tokens leave no trace.</param>
    public TextDecoder(BytePairTokenizer tokenizer, bool skipSpecialTokens = true)
    {
        ArgumentNullException.ThrowIfNull(tokenizer);
        this.tokenizer = tokenizer;
        this.skipSpecialTokens = skipSpecialTokens;
        first = tokenizer.Decoder.Begin(text);
    }

    /// <summary>The text that this id completes; empty while a character lacks bytes.</summary>
    /// <exception cref="Tensors.InvalidInputException">The id is outside the vocabulary.</exception>
    public string Append(int id)
    {
        Take(id);
        return text.Flush();
    }

    /// <summary>What is left at the end: U+FFFD if the last character is incomplete, or what waited for it. Nothing may follow.</summary>
    public string Finish()
    {
        first.Finish();
        return text.Flush();
    }

    /// <summary>The text of all ids.</summary>
    internal string DecodeAll(ReadOnlySpan<int> ids)
    {
        foreach (int id in ids)
        {
            Take(id);
        }

        return Finish();
    }

    private void Take(int id)
    {
        string? token = tokenizer.TokenOf(id);
        if (token is not null && !(skipSpecialTokens && tokenizer.IsSpecial(id)))
        {
            first.Take(token, beginsToken: true);
        }
    }
}
