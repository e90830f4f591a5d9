using System.Text;

namespace ExactFlow.Models.Text;

/// <summary>
/// Turns ids into text one at a time, as they are generated: a character whose bytes come in several tokens appears when it is complete.
/// </summary>
/// <param name="tokenizer">Knows the bytes of the ids.</param>
/// <param name="skipSpecialTokens">Whether special tokens leave no trace.</param>
public sealed class TextDecoder(BytePairTokenizer tokenizer, bool skipSpecialTokens = true)
{
    private readonly Decoder decoder = Encoding.UTF8.GetDecoder();

    /// <summary>The text that this id completes; empty while a character lacks bytes.</summary>
    /// <exception cref="Tensors.InvalidInputException">The id is outside the vocabulary.</exception>
    public string Append(int id)
    {
        ReadOnlySpan<byte> bytes = skipSpecialTokens && tokenizer.IsSpecial(id) ? default : tokenizer.BytesOf(id);
        return Convert(bytes, flush: false);
    }

    /// <summary>What is left at the end: U+FFFD if the last character is incomplete, else nothing.</summary>
    public string Finish() => Convert(default, flush: true);

    private string Convert(ReadOnlySpan<byte> bytes, bool flush)
    {
        Span<char> characters = stackalloc char[256];
        StringBuilder text = new();
        bool completed;
        do
        {
            decoder.Convert(bytes, characters, flush, out int used, out int written, out completed);
            text.Append(characters[..written]);
            bytes = bytes[used..];
        }
        while (!completed);

        return text.ToString();
    }
}
