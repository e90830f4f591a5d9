using System.Globalization;

namespace ExactFlow.Models.Text.Normalizers;

/// <summary>
/// Decomposition, canonical order and composition of characters, from a table of the Unicode Character Database. The framework's own normalization needs ICU,
/// and the same text must have the same ids on every machine.
/// </summary>
internal sealed class UnicodeForms
{
    private const int HangulSyllables = 0xAC00, LeadingJamo = 0x1100, VowelJamo = 0x1161, TrailingJamo = 0x11A7;
    private const int VowelCount = 21, TrailingCount = 28, SyllableCount = 19 * VowelCount * TrailingCount;

    private static readonly Lazy<UnicodeForms>[] Forms = [.. Enumerable.Range(0, 4).Select(i => new Lazy<UnicodeForms>(() => new UnicodeForms((i & 1) != 0, (i & 2) != 0)))];

    private readonly Dictionary<int, byte> classes = [];
    private readonly Dictionary<int, int[]> decompositions = [];
    private readonly Dictionary<(int First, int Second), int> compositions = [];
    private readonly HashSet<int> unstable = [];
    private readonly bool[] isUnstableBasic = new bool[0x10000];

    private UnicodeForms(bool isCompatible, bool composes)
    {
        Read(isCompatible);
        unstable.UnionWith(classes.Keys);
        if (composes)
        {
            unstable.UnionWith(compositions.Keys.Select(pair => pair.Second));
            unstable.UnionWith(Enumerable.Range(VowelJamo, VowelCount).Concat(Enumerable.Range(TrailingJamo + 1, TrailingCount - 1)));
            unstable.UnionWith(decompositions.Keys.Where(character => !ComesBack(character)));
        }
        else
        {
            unstable.UnionWith(decompositions.Keys.Concat(Enumerable.Range(HangulSyllables, SyllableCount)));
        }

        foreach (int character in unstable.Where(character => character < isUnstableBasic.Length))
        {
            isUnstableBasic[character] = true;
        }
    }

    /// <summary>The tables of a form, read once.</summary>
    public static UnicodeForms Of(bool isCompatible, bool composes) => Forms[(isCompatible ? 1 : 0) + (composes ? 2 : 0)].Value;

    /// <summary>Whether a character never changes, moves, or joins with what stands before it.</summary>
    public bool IsStable(int character) => character < isUnstableBasic.Length ? !isUnstableBasic[character] : !unstable.Contains(character);

    /// <summary>Appends the full decomposition of a character.</summary>
    public void Decompose(int character, List<int> result)
    {
        int syllable = character - HangulSyllables;
        if ((uint)syllable < SyllableCount)
        {
            result.Add(LeadingJamo + (syllable / (VowelCount * TrailingCount)));
            result.Add(VowelJamo + (syllable / TrailingCount % VowelCount));
            if (syllable % TrailingCount != 0)
            {
                result.Add(TrailingJamo + (syllable % TrailingCount));
            }
        }
        else if (decompositions.TryGetValue(character, out int[]? parts))
        {
            foreach (int part in parts)
            {
                Decompose(part, result);
            }
        }
        else
        {
            result.Add(character);
        }
    }

    /// <summary>Puts marks that follow one another into the order of their combining classes, keeping the order of equals.</summary>
    public void Reorder(List<int> characters)
    {
        for (int start = 0; start < characters.Count;)
        {
            int end = start;
            while (end < characters.Count && ClassOf(characters[end]) != 0)
            {
                end++;
            }

            if (end - start > 1)
            {
                int[] sorted = [.. characters.GetRange(start, end - start).OrderBy(ClassOf)];
                for (int i = 0; i < sorted.Length; i++)
                {
                    characters[start + i] = sorted[i];
                }
            }

            start = end + 1;
        }
    }

    /// <summary>Joins each starter with the marks after it that nothing separates from it.</summary>
    public void Compose(List<int> characters)
    {
        int starter = -1, kept = 0, lastClass = 0;
        foreach (int character in characters.ToArray())
        {
            int combiningClass = ClassOf(character);
            bool isBlocked = starter < 0 || (kept - 1 != starter && (lastClass == 0 || lastClass >= combiningClass));
            if (!isBlocked && TryCompose(characters[starter], character, out int composed))
            {
                characters[starter] = composed;
                continue;
            }

            if (combiningClass == 0)
            {
                starter = kept;
            }

            lastClass = combiningClass;
            characters[kept++] = character;
        }

        characters.RemoveRange(kept, characters.Count - kept);
    }

    private bool ComesBack(int character)
    {
        List<int> characters = [];
        Decompose(character, characters);
        Reorder(characters);
        Compose(characters);
        return characters is [var only] && only == character;
    }

    private int ClassOf(int character) => classes.GetValueOrDefault(character);

    private bool TryCompose(int first, int second, out int composed)
    {
        int leading = first - LeadingJamo, vowel = second - VowelJamo, syllable = first - HangulSyllables, trailing = second - TrailingJamo;
        if ((uint)leading < 19 && (uint)vowel < VowelCount)
        {
            composed = HangulSyllables + (((leading * VowelCount) + vowel) * TrailingCount);
            return true;
        }

        if ((uint)syllable < SyllableCount && syllable % TrailingCount == 0 && trailing is > 0 and < TrailingCount)
        {
            composed = first + trailing;
            return true;
        }

        return compositions.TryGetValue((first, second), out composed);
    }

    private void Read(bool isCompatible)
    {
        using Stream stream = typeof(UnicodeForms).Assembly.GetManifestResourceStream("unicode-normalization.txt")!;
        using StreamReader reader = new(stream);
        while (reader.ReadLine() is { } line)
        {
            int mark = line.AsSpan().IndexOfAny("=!~-");
            if (line[0] == '#')
            {
                continue;
            }

            int character = Hexadecimal(line.AsSpan(0, mark));
            if (line[mark] == '-')
            {
                int blank = line.IndexOf(' ', StringComparison.Ordinal);
                byte combiningClass = byte.Parse(line.AsSpan(blank + 1), CultureInfo.InvariantCulture);
                for (int last = Hexadecimal(line.AsSpan(mark + 1, blank - mark - 1)); character <= last; character++)
                {
                    classes[character] = combiningClass;
                }

                continue;
            }

            int[] parts = [.. line[(mark + 1)..].Split(' ').Select(part => Hexadecimal(part))];
            if (line[mark] != '~' || isCompatible)
            {
                decompositions[character] = parts;
            }

            if (line[mark] == '=')
            {
                compositions[(parts[0], parts[1])] = character;
            }
        }
    }

    private static int Hexadecimal(ReadOnlySpan<char> text) => int.Parse(text, NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture);
}
