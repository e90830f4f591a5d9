using System.Text;
using ExactFlow.Models.Text;
using ExactFlow.Models.Text.PreTokenizers;
using ExactFlow.Tensors.Randomness;

namespace ExactFlow.Models.Tests.Text;

/// <summary>The scanner of cl100k, Llama 3 and Qwen against the pattern it stands for.</summary>
public class Cl100kPreTokenizerTests
{
    private const string Head = @"'[sS\u017FtTmMdD]|'[rR][eE]|'[vV][eE]|'[lL][lL]|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}";
    private const string Tail = @"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

    [Theory]
    [InlineData(1, Head + Tail)]
    [InlineData(3, Head + "{1,3}" + Tail)]
    public void WordsAreThoseOfThePattern(int longestNumber, string pattern)
    {
        const string Alphabet = "aZé中1９ \n\r\t\u00A0'stmdrevlSTſ.,!-😀𐐀\u0301";
        Rune[] runes = [.. Alphabet.EnumerateRunes()];
        Cl100kPreTokenizer scanner = new(longestNumber);
        CodePointPattern reference = new(pattern);
        Philox random = new(9, (ulong)longestNumber);
        ulong position = 0;
        for (int round = 0; round < 20_000; round++)
        {
            byte[] text = Encoding.UTF8.GetBytes(string.Concat(Enumerable.Range(0, 1 + random.Below(position++, 12)).Select(_ => runes[random.Below(position++, runes.Length)])));
            List<Range> words = [];
            for (int start = 0; start < text.Length;)
            {
                int end = scanner.WordEnd(text, start);
                words.Add(start..end);
                start = end;
            }

            Assert.Equal(reference.Matches(text), words);
            int cut = scanner.SafeCut(text, 0);
            Assert.True(cut == text.Length || words.Exists(word => word.Start.Value == cut));
        }
    }
}
