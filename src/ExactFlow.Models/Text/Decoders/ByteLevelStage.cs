using System.Text;

namespace ExactFlow.Models.Text.Decoders;

/// <summary>Tokens in the byte-level alphabet become bytes, others their UTF-8, and the bytes of all text; what is no UTF-8 becomes U+FFFD.</summary>
internal sealed class ByteLevelStage(PieceSink next) : DecoderStage(next)
{
    private readonly Decoder utf8 = Encoding.UTF8.GetDecoder();
    private bool isFirst = true;

    /// <summary>The bytes of a token.</summary>
    public static byte[] BytesOf(string token) => ByteAlphabet.TryRead(token) ?? Encoding.UTF8.GetBytes(token);

    /// <inheritdoc/>
    public override void Take(ReadOnlySpan<char> text, bool beginsToken) => Convert(BytesOf(text.ToString()), flush: false);

    /// <inheritdoc/>
    public override void Finish()
    {
        Convert([], flush: true);
        Next.Finish();
    }

    private void Convert(ReadOnlySpan<byte> bytes, bool flush)
    {
        Span<char> characters = stackalloc char[256];
        bool completed;
        do
        {
            utf8.Convert(bytes, characters, flush, out int used, out int written, out completed);
            bytes = bytes[used..];
            if (written > 0)
            {
                Next.Take(characters[..written], isFirst);
                isFirst = false;
            }
        }
        while (!completed);
    }
}
