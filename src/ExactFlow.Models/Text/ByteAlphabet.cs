namespace ExactFlow.Models.Text;

/// <summary>
/// The 256 printable characters that stand for bytes in the files of byte-level tokenizers: the printable characters of Latin-1 stand for themselves, the other bytes,
/// in ascending order, for U+0100, U+0101, ... A blank, for one, is written <c>Ġ</c>. Source: GPT-2's <c>bytes_to_unicode</c>.
/// </summary>
internal static class ByteAlphabet
{
    private const int FirstSubstitute = 0x100;
    private static readonly char[] Characters = new char[256];
    private static readonly short[] Bytes = new short[FirstSubstitute + 256];

    static ByteAlphabet()
    {
        Array.Fill(Bytes, (short)-1);
        int substitute = FirstSubstitute;
        for (int value = 0; value < 256; value++)
        {
            bool isPrintable = value is (>= '!' and <= '~') or (>= 0xA1 and <= 0xAC) or (>= 0xAE and <= 0xFF);
            char character = isPrintable ? (char)value : (char)substitute++;
            Characters[value] = character;
            Bytes[character] = (short)value;
        }

        InOrder = [.. Enumerable.Range(0, 256).Select(value => (byte)value).OrderBy(value => Characters[value])];
    }

    /// <summary>The bytes in the order of their characters, which is the order of their ids in vocabularies.</summary>
    public static IReadOnlyList<byte> InOrder { get; }

    /// <summary>Writes bytes in the alphabet.</summary>
    public static string Write(ReadOnlySpan<byte> bytes) => string.Create(bytes.Length, bytes, static (text, bytes) =>
    {
        for (int i = 0; i < bytes.Length; i++)
        {
            text[i] = Characters[bytes[i]];
        }
    });

    /// <summary>Reads bytes written in the alphabet; null if a character is not part of it.</summary>
    public static byte[]? TryRead(string text)
    {
        var bytes = new byte[text.Length];
        for (int i = 0; i < bytes.Length; i++)
        {
            int value = text[i] < Bytes.Length ? Bytes[text[i]] : -1;
            if (value < 0)
            {
                return null;
            }

            bytes[i] = (byte)value;
        }

        return bytes;
    }
}
