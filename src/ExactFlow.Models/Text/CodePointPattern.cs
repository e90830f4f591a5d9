using System.Buffers;
using System.Globalization;
using System.Text;
using System.Text.RegularExpressions;
using ExactFlow.Tensors;

namespace ExactFlow.Models.Text;

/// <summary>
/// A regular expression over the code points of UTF-8 text. The framework's patterns see UTF-16, so each character beyond the basic plane is stood in for by a rare one of
/// the basic plane of the same general category, and each byte that is no UTF-8 by U+FFFD.
/// </summary>
internal sealed class CodePointPattern
{
    private static readonly TimeSpan Timeout = TimeSpan.FromSeconds(20);
    private static readonly Lazy<char[]> StandIns = new(FindStandIns);
    private readonly Lazy<Regex> compiled;
    private readonly string pattern;

    /// <summary>Checks a pattern.</summary>
    /// <exception cref="ArgumentException">It is not one that the framework knows, or it names characters beyond the basic plane.</exception>
    public CodePointPattern(string pattern)
    {
        if (pattern.Any(char.IsSurrogate))
        {
            throw new ArgumentException("it names characters beyond U+FFFF");
        }

        this.pattern = pattern;
        _ = new Regex(pattern, RegexOptions.CultureInvariant, Timeout);
        compiled = new Lazy<Regex>(() => new Regex(pattern, RegexOptions.CultureInvariant | RegexOptions.Compiled, Timeout));
    }

    /// <summary>The matches that are not empty, as ranges of bytes.</summary>
    /// <exception cref="InvalidInputException">The pattern takes too long.</exception>
    public List<Range> Matches(ReadOnlySpan<byte> text)
    {
        List<Range> found = [];
        char[] characters = ArrayPool<char>.Shared.Rent(text.Length);
        int[] starts = ArrayPool<int>.Shared.Rent(text.Length + 1);
        try
        {
            int count = Read(text, characters, starts);
            foreach (ValueMatch match in compiled.Value.EnumerateMatches(characters.AsSpan(0, count)))
            {
                if (match.Length > 0)
                {
                    found.Add(starts[match.Index]..starts[match.Index + match.Length]);
                }
            }
        }
        catch (RegexMatchTimeoutException exception)
        {
            throw new InvalidInputException(
                $"The tokenizer's pattern '{pattern}' took more than {Timeout.TotalSeconds} s on {text.Length} bytes of text; give shorter texts or another tokenizer.", exception);
        }
        finally
        {
            ArrayPool<char>.Shared.Return(characters);
            ArrayPool<int>.Shared.Return(starts);
        }

        return found;
    }

    private static int Read(ReadOnlySpan<byte> text, char[] characters, int[] starts)
    {
        int count = 0, position = 0;
        while (position < text.Length)
        {
            starts[count] = position;
            bool isCharacter = Rune.DecodeFromUtf8(text[position..], out Rune rune, out int length) == OperationStatus.Done;
            characters[count++] = !isCharacter ? '\uFFFD' : rune.IsBmp ? (char)rune.Value : StandIns.Value[(int)Rune.GetUnicodeCategory(rune)];
            position += length;
        }

        starts[count] = position;
        return count;
    }

    private static char[] FindStandIns()
    {
        var found = new char[(int)UnicodeCategory.OtherNotAssigned + 1];
        Array.Fill(found, '\uFFFF');
        for (int code = 0; code < 0xFFFE; code++)
        {
            found[(int)CharUnicodeInfo.GetUnicodeCategory((char)code)] = (char)code;
        }

        return found;
    }
}
