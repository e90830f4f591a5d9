using System.Globalization;
using System.Text;
using System.Text.RegularExpressions;
using ExactFlow.Models.Text.PreTokenizers;
using ExactFlow.Tensors.Randomness;
using ExactFlow.Testing;

namespace ExactFlow.Models.Tests.Text;

/// <summary>The scanner against the framework's regular expressions, on characters of every kind.</summary>
public partial class Gpt2PreTokenizerTests
{
    private static readonly string[] Snippets =
    [
        " ", " ", "  ", "\n", "\t", "\r\n", "\u00A0", "\u3000", "\u2028", "\u0085", "'", "'s", "'t", "'re", "'ve", "'m", "'ll", "'d", "'S", "'l", "'r", "''", "a", "B", "word", "ß", "é", "e\u0301", "λ", "я",
        "中", "한", "ا", "ª", "0", "12", "²", "½", "Ⅷ", "٣", ".", "!?", "-", "_", "$", "€", "“", "…", "\u200D", "\uFEFF", "\u0000", "\u001C", "\u180E", "\uFFFF",
        "\U0001F600", "\U0001D400", "\U00010330", "\U0001D7D8", "\U00020000",
    ];

    [GeneratedRegex(@"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+")]
    private static partial Regex Pattern { get; }

    [Fact]
    public void WordsAreThoseOfThePattern()
    {
        Philox random = new(1, Philox.StreamOf("pre-tokenizer"));
        ulong position = 0;
        StringBuilder builder = new();
        for (int i = 0; i < 20_000; i++)
        {
            builder.Clear();
            int pieces = random.Below(position++, 12);
            for (int piece = 0; piece < pieces; piece++)
            {
                builder.Append(Snippets[random.Below(position++, Snippets.Length)]);
            }

            string text = builder.ToString();
            Assert.Equal(ByPattern(text), ByScanner(text));
        }
    }

    [Fact]
    public void EveryCharacterIsInTheClassOfThePattern()
    {
        for (int code = 0; code <= 0x10FFFF; code++)
        {
            if (Rune.IsValid(code))
            {
                string text = $"a{new Rune(code)}a";
                Assert.Equal(ByPattern(text), ByScanner(text));
            }
        }
    }

    [Fact]
    public void RealTextIsCutAsThePatternDoes()
    {
        string text = File.ReadAllText(SharedData.Find("tinyshakespeare/input.txt"))[..200_000];
        Assert.Equal(ByPattern(text), ByScanner(text));
    }

    [Fact]
    public void SafeCutsAreWordBoundaries()
    {
        Gpt2PreTokenizer scanner = new();
        byte[] text = Encoding.UTF8.GetBytes("It's  a\u00A0 b\n\n c ' d\u3000\n中 文  \n end  ");
        HashSet<int> starts = [0];
        for (int start = 0; start < text.Length;)
        {
            start = scanner.WordEnd(text, start);
            starts.Add(start);
        }

        for (int from = 0; from <= text.Length; from++)
        {
            int cut = scanner.SafeCut(text, from);
            Assert.InRange(cut, from, text.Length);
            Assert.Contains(cut, starts);
        }
    }

    [Fact]
    public void BytesThatAreNoUtf8AreWordsOfOtherCharacters()
    {
        Gpt2PreTokenizer scanner = new();
        Assert.Equal(3, scanner.WordEnd([(byte)' ', 0xFF, 0xC3, (byte)'a'], 0));
        Assert.Equal(2, scanner.WordEnd([0xE2, 0x82], 0));
    }

    private static List<string> ByScanner(string text)
    {
        byte[] utf8 = Encoding.UTF8.GetBytes(text);
        Gpt2PreTokenizer scanner = new();
        List<string> words = [];
        for (int start = 0; start < utf8.Length;)
        {
            int end = scanner.WordEnd(utf8, start);
            words.Add(Encoding.UTF8.GetString(utf8, start, end - start));
            start = end;
        }

        return words;
    }

    /// <summary>
    /// The framework's patterns see UTF-16 code units, so characters beyond the basic plane are stood in for by one character of the same class
    /// (none of which any of the texts holds), and the pieces are mapped back by counting.
    /// </summary>
    private static List<string> ByPattern(string text)
    {
        Rune[] runes = [.. text.EnumerateRunes()];
        string standIn = string.Concat(runes.Select(rune => rune.IsBmp ? (char)rune.Value : StandIn(rune)));
        List<string> words = [];
        foreach (Match match in Pattern.Matches(standIn))
        {
            words.Add(string.Concat(runes.Skip(match.Index).Take(match.Length)));
        }

        return words;
    }

    private static char StandIn(Rune rune) => CharUnicodeInfo.GetUnicodeCategory(rune.Value) switch
    {
        <= UnicodeCategory.OtherLetter => 'ʘ',
        UnicodeCategory.DecimalDigitNumber or UnicodeCategory.LetterNumber or UnicodeCategory.OtherNumber => '⑨',
        _ => '☃',
    };
}
