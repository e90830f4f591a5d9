using System.Buffers;
using System.Text;

namespace ExactFlow.Models.Text.Normalizers;

/// <summary>
/// The Unicode normalization forms C, D, KC and KD (Unicode Standard Annex 15). Text that is in the form already, which nearly all is, is recognised without being copied:
/// all characters below U+00A0 are, and of the others a table knows which never change nor join with what stands before them.
/// </summary>
internal sealed class UnicodeNormalizer(bool isCompatible, bool composes) : Normalizer
{
    private readonly UnicodeForms forms = UnicodeForms.Of(isCompatible, composes);

    /// <summary>A blank is a boundary of every form.</summary>
    public override bool IsLocal => true;

    /// <inheritdoc/>
    public override byte[]? Apply(ReadOnlySpan<byte> text, bool continues, ref bool dropsStart)
    {
        ArrayBufferWriter<byte>? result = null;
        int copied = 0;
        for (int position = 0; FindUnstable(text, ref position, out int boundary);)
        {
            int end = SpanEnd(text, position);
            result ??= new ArrayBufferWriter<byte>(text.Length + 16);
            result.Write(text[copied..boundary]);
            WriteNormalized(text[boundary..end], result);
            copied = position = end;
        }

        if (result is null)
        {
            return null;
        }

        result.Write(text[copied..]);
        return result.WrittenSpan.ToArray();
    }

    /// <summary>Looks for the next character that may change or join; the boundary is the start of the last stable character before it.</summary>
    private bool FindUnstable(ReadOnlySpan<byte> text, ref int position, out int boundary)
    {
        boundary = position;
        while (position < text.Length)
        {
            int ascii = text[position..].IndexOfAnyInRange((byte)0x80, (byte)0xFF);
            if (ascii != 0)
            {
                position += ascii < 0 ? text.Length - position : ascii;
                boundary = position - 1;
                continue;
            }

            bool isCharacter = Rune.DecodeFromUtf8(text[position..], out Rune rune, out int length) == OperationStatus.Done;
            if (isCharacter && !forms.IsStable(rune.Value))
            {
                return true;
            }

            boundary = isCharacter ? position : position + length;
            position += length;
        }

        return false;
    }

    /// <summary>The place where the next stable character, or no character, begins.</summary>
    private int SpanEnd(ReadOnlySpan<byte> text, int position)
    {
        while (position < text.Length
            && Rune.DecodeFromUtf8(text[position..], out Rune rune, out int length) == OperationStatus.Done
            && !forms.IsStable(rune.Value))
        {
            position += length;
        }

        return position;
    }

    private void WriteNormalized(ReadOnlySpan<byte> text, ArrayBufferWriter<byte> result)
    {
        List<int> characters = [];
        for (int length; !text.IsEmpty; text = text[length..])
        {
            _ = Rune.DecodeFromUtf8(text, out Rune rune, out length);
            forms.Decompose(rune.Value, characters);
        }

        forms.Reorder(characters);
        if (composes)
        {
            forms.Compose(characters);
        }

        Span<byte> utf8 = stackalloc byte[4];
        foreach (int character in characters)
        {
            int length = new Rune(character).EncodeToUtf8(utf8);
            result.Write(utf8[..length]);
        }
    }
}
