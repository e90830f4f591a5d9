using System.Buffers;
using System.Globalization;
using System.Text;

namespace ExactFlow.Models.Text.Normalizers;

/// <summary>Rewrites each character by itself.</summary>
/// <param name="rewrite">What a character becomes: itself, nothing, or others.</param>
/// <param name="isAsciiFixed">Whether ASCII characters all stay as they are.</param>
internal sealed class RuneNormalizer(Func<Rune, string?> rewrite, bool isAsciiFixed) : Normalizer
{
    /// <inheritdoc/>
    public override bool IsLocal => true;

    /// <summary>Lower case, character by character: full Unicode lower case but for the final sigma.</summary>
    public static RuneNormalizer Lowercase() => new(
        rune => rune.Value == 0x130 ? "i\u0307" : Rune.ToLowerInvariant(rune) is var lower && lower != rune ? lower.ToString() : null,
        isAsciiFixed: false);

    /// <summary>Leaves out combining marks of all kinds.</summary>
    public static RuneNormalizer StripAccents() => new(
        rune => Rune.GetUnicodeCategory(rune) is UnicodeCategory.NonSpacingMark or UnicodeCategory.SpacingCombiningMark or UnicodeCategory.EnclosingMark ? "" : null,
        isAsciiFixed: true);

    /// <inheritdoc/>
    public override byte[]? Apply(ReadOnlySpan<byte> text, bool continues, ref bool dropsStart)
    {
        if (isAsciiFixed && Ascii.IsValid(text))
        {
            return null;
        }

        ArrayBufferWriter<byte> result = new(text.Length + 16);
        bool isChanged = false;
        for (int length; !text.IsEmpty; text = text[length..])
        {
            if (Rune.DecodeFromUtf8(text, out Rune rune, out length) == OperationStatus.Done && rewrite(rune) is { } changed)
            {
                dropsStart |= changed.Length == 0 && result.WrittenCount == 0;
                isChanged = true;
                Encoding.UTF8.GetBytes(changed, result);
            }
            else
            {
                result.Write(text[..length]);
            }
        }

        return isChanged ? result.WrittenSpan.ToArray() : null;
    }
}
