using System.Text;
using ExactFlow.Models.Text.Normalizers;

namespace ExactFlow.Models.Text.Files;

/// <summary>Reads the <c>normalizer</c> of a <c>tokenizer.json</c>.</summary>
internal static class NormalizerReader
{
    /// <summary>Reads a normalizer.</summary>
    /// <exception cref="Tensors.InvalidInputException">It is damaged, or of a kind that is not computed here, which is named.</exception>
    public static Normalizer Read(JsonPart part) => part.Type switch
    {
        "Sequence" => new NormalizerSequence([.. part.Only("normalizers")["normalizers"].Items().Select(Read)]),
        "NFC" => new UnicodeNormalizer(isCompatible: false, composes: true),
        "NFD" => new UnicodeNormalizer(isCompatible: false, composes: false),
        "NFKC" => new UnicodeNormalizer(isCompatible: true, composes: true),
        "NFKD" => new UnicodeNormalizer(isCompatible: true, composes: false),
        "Lowercase" => RuneNormalizer.Lowercase(),
        "StripAccents" => RuneNormalizer.StripAccents(),
        "Strip" => part.Only("strip_left", "strip_right") is var strip ? new StripNormalizer(strip.Flag("strip_left"), strip.Flag("strip_right")) : null!,
        "Prepend" => new PrependNormalizer(Utf8(part.Only("prepend")["prepend"])),
        "Replace" => ReadReplace(part.Only("pattern", "content")),
        string type => throw part.Unsupported($"the type {type}"),
    };

    private static Normalizer ReadReplace(JsonPart part)
    {
        byte[] content = Utf8(part["content"]);
        return PatternReader.Read(part["pattern"], out CodePointPattern? regex) is { } text
            ? new ReplaceNormalizer(Encoding.UTF8.GetBytes(text), content)
            : new RegexReplaceNormalizer(regex!, content);
    }

    private static byte[] Utf8(JsonPart part) => Encoding.UTF8.GetBytes(part.Text());
}
