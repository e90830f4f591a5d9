using System.Text;
using System.Xml;

namespace ExactFlow.Training.Data;

/// <summary>Reads the English sentences of an XML documentation file: signatures, tags and code are dropped, references become the short name of what they refer to.</summary>
internal static class DocumentationProse
{
    private const int FewestWords = 4;
    private const double SmallestPartOfLetters = 0.88;

    /// <summary>Paragraphs of a documentation file, in its order: one per summary, parameter, return value, remark, list item or exception that is prose.</summary>
    /// <exception cref="XmlException">The file is not XML.</exception>
    public static IEnumerable<string> Read(Stream stream)
    {
        using XmlReader reader = XmlReader.Create(stream, new XmlReaderSettings { IgnoreComments = true, IgnoreProcessingInstructions = true, DtdProcessing = DtdProcessing.Prohibit });
        StringBuilder text = new();
        bool more = reader.Read();
        while (more)
        {
            bool endsParagraph = false, skipped = false;
            switch (reader.NodeType)
            {
                case XmlNodeType.Text or XmlNodeType.CDATA or XmlNodeType.SignificantWhitespace or XmlNodeType.Whitespace:
                    text.Append(reader.Value);
                    break;
                case XmlNodeType.Element when reader.Name is "code" or "name":
                    // Skip leaves the reader on the node after the element.
                    reader.Skip();
                    skipped = true;
                    break;
                case XmlNodeType.Element when IsInline(reader.Name):
                    text.Append(ShortName(reader));
                    break;
                case XmlNodeType.Element:
                    endsParagraph = true;
                    break;
                case XmlNodeType.EndElement:
                    endsParagraph = !IsInline(reader.Name);
                    break;
            }

            if (endsParagraph)
            {
                string paragraph = Normalise(text);
                text.Clear();
                if (IsProse(paragraph))
                {
                    yield return paragraph;
                }
            }

            more = skipped ? !reader.EOF : reader.Read();
        }
    }

    /// <summary>The sentences of a paragraph: they end with a full stop, exclamation or question mark before a blank and a capital or digit.</summary>
    public static IEnumerable<string> Sentences(string paragraph)
    {
        int start = 0;
        for (int i = 0; i + 2 < paragraph.Length; i++)
        {
            if (paragraph[i] is '.' or '!' or '?' && paragraph[i + 1] == ' ' && (char.IsAsciiLetterUpper(paragraph[i + 2]) || char.IsAsciiDigit(paragraph[i + 2])))
            {
                yield return paragraph[start..(i + 1)];
                start = i + 2;
            }
        }

        yield return paragraph[start..];
    }

    private static bool IsInline(string element)
        => element is "see" or "seealso" or "paramref" or "typeparamref" or "xref" or "c" or "b" or "i" or "em" or "strong" or "a" or "tt" or "sup" or "sub" or "u";

    /// <summary>
    /// The last part of what an empty element refers to: <c>BitArray</c> of <c>T:System.Collections.BitArray</c>, <c>Add</c> of <c>M:System.Collections.ArrayList.Add(System.Object)</c>,
    /// the type of a constructor; nothing for elements with words of their own.
    /// </summary>
    private static string ShortName(XmlReader reader)
    {
        if (!reader.IsEmptyElement || reader.Name == "seealso")
        {
            return "";
        }

        string reference = reader.GetAttribute("name") ?? reader.GetAttribute("langword") ?? reader.GetAttribute("cref") ?? reader.GetAttribute("uid") ?? "";
        int end = reference.IndexOf('(', StringComparison.Ordinal);
        string path = (end < 0 ? reference : reference[..end]).Replace(".#ctor", "", StringComparison.Ordinal).TrimEnd('*');
        string name = path[(path.LastIndexOfAny(['.', ':', '#', '/']) + 1)..];
        int generic = name.IndexOfAny(['`', '{', '%']);
        return generic < 0 ? name : name[..generic];
    }

    private static string Normalise(StringBuilder text)
    {
        StringBuilder result = new(text.Length);
        foreach (ReadOnlyMemory<char> chunk in text.GetChunks())
        {
            foreach (char character in chunk.Span)
            {
                if (!char.IsWhiteSpace(character))
                {
                    result.Append(character);
                }
                else if (result.Length > 0 && result[^1] != ' ')
                {
                    result.Append(' ');
                }
            }
        }

        return result.ToString().TrimEnd();
    }

    /// <summary>A sentence begins with a capital, ends with a mark, has some words, and consists mostly of letters: what is left out are instruction listings, tables and fragments.</summary>
    private static bool IsProse(string paragraph)
    {
        if (paragraph.Length == 0 || !char.IsAsciiLetterUpper(paragraph[0]) || paragraph[^1] is not ('.' or '!' or '?') || paragraph.Contains("__", StringComparison.Ordinal))
        {
            return false;
        }

        int letters = 0, words = 1;
        foreach (char character in paragraph)
        {
            letters += char.IsAsciiLetter(character) || character is ' ' or ',' or '.' ? 1 : 0;
            words += character == ' ' ? 1 : 0;
        }

        return words >= FewestWords && letters >= SmallestPartOfLetters * paragraph.Length;
    }
}
