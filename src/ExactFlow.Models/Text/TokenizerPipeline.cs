using System.Text;
using System.Text.Json;
using ExactFlow.Models.Text.Decoders;
using ExactFlow.Models.Text.Files;
using ExactFlow.Models.Text.Normalizers;
using ExactFlow.Models.Text.PreTokenizers;
using ExactFlow.Tensors;

namespace ExactFlow.Models.Text;

/// <summary>
/// The way of a text to ids: added tokens that are looked for in the text as it is; for each piece between them the normalizer, then added tokens that are looked for in
/// normalized text; for each piece between those the pre-tokenizer; for each word the model.
/// </summary>
internal sealed class TokenizerPipeline
{
    private readonly AddedTokens rawTokens;
    private readonly AddedTokens normalizedTokens;
    private readonly Normalizer? normalizer;
    private readonly PreTokenizer preTokenizer;

    /// <summary>Builds the stages.</summary>
    /// <exception cref="InvalidInputException">A part is damaged, or of a kind that is not computed here, which is named.</exception>
    public TokenizerPipeline(TokenizerParts parts)
    {
        JsonPart? Part(JsonElement? element, string name) => element is { } json ? new JsonPart(json, name, parts.Source) : null;
        normalizer = Part(parts.Normalizer, "normalizer") is { } given ? NormalizerReader.Read(given) : null;
        PreTokenizerReader reader = PreTokenizerReader.Read(Part(parts.PreTokenizer, "pre_tokenizer"));
        Decoder = DecoderReader.Read(Part(parts.Decoder, "decoder"));
        (Before, After) = PostProcessorReader.Read(Part(parts.PostProcessor, "post_processor"));
        rawTokens = new AddedTokens(parts.Added.Where(token => !token.Normalized).Select(token => (token, Encoding.UTF8.GetBytes(token.Content))));
        normalizedTokens = new AddedTokens(parts.Added.Where(token => token.Normalized).Select(token => (token, Encoding.UTF8.GetBytes(normalizer?.Apply(token.Content) ?? token.Content))));
        Tokens = TokensById(parts);
        byte[][] units = UnitsById(parts, reader.IsByteLevel);
        byte[] mark = TakeMarkOut(reader, units);
        try
        {
            int unknown = parts.Settings.UnknownToken is { } token && parts.Vocabulary.TryGetValue(token, out int id) ? id : -1;
            Model = new BytePairModel(units, parts.Merges, parts.Settings with { IsByteLevel = reader.IsByteLevel }, unknown);
        }
        catch (InvalidInputException exception)
        {
            throw new InvalidInputException($"Cannot read tokenizer '{parts.Source}': {exception.Message}", exception);
        }

        preTokenizer = WithMergeBoundaries(reader, units, mark);
        if (Before.Concat(After).FirstOrDefault(id => (uint)id >= (uint)Tokens.Length || Tokens[id] is null, -1) is >= 0 and int missing)
        {
            throw new InvalidInputException($"Cannot read tokenizer '{parts.Source}': its post_processor adds id {missing}, which is not in the vocabulary; the file is damaged.");
        }
    }

    /// <summary>The tokens as they are written, by id; null for ids that are not in use.</summary>
    public string?[] Tokens { get; }

    /// <summary>The merges.</summary>
    public BytePairModel Model { get; }

    /// <summary>The way back.</summary>
    public DecoderChain Decoder { get; }

    /// <summary>Ids that the post-processor puts before a text.</summary>
    public int[] Before { get; }

    /// <summary>Ids that the post-processor puts after a text.</summary>
    public int[] After { get; }

    /// <summary>Encodes a text.</summary>
    /// <param name="text">UTF-8.</param>
    /// <param name="continues">Whether more text stands directly before this part.</param>
    /// <param name="recogniseSpecial">Whether special tokens count.</param>
    /// <param name="scratch">Takes the ids.</param>
    public void Encode(ReadOnlySpan<byte> text, bool continues, bool recogniseSpecial, BytePairScratch scratch)
    {
        int position = 0;
        AddedTokens.Search search = rawTokens.In(text, recogniseSpecial);
        while (search.MoveNext())
        {
            if (position < search.Start)
            {
                EncodePiece(text[position..search.Start], continues && position == 0, position == 0, recogniseSpecial, scratch);
            }

            scratch.Output.Append(search.Id);
            position = search.End;
        }

        if (position < text.Length)
        {
            EncodePiece(text[position..], continues && position == 0, position == 0, recogniseSpecial, scratch);
        }
    }

    /// <summary>
    /// Parts of about the given size that, encoded one by one and all but the first as continuations, give the ids of the whole. A tokenizer that cannot be cut so, for
    /// instance because a pattern may look at anything, gives one part.
    /// </summary>
    public IEnumerable<ReadOnlyMemory<byte>> SafeParts(ReadOnlyMemory<byte> text, int size)
    {
        bool canCut = rawTokens.AllowsCuts && normalizedTokens.AllowsCuts && normalizer is not { IsLocal: false };
        while (canCut && text.Length > size)
        {
            int cut = preTokenizer.SafeCut(text.Span, size);
            yield return text[..cut];
            text = text[cut..];
        }

        if (!text.IsEmpty)
        {
            yield return text;
        }
    }

    private static string?[] TokensById(TokenizerParts parts)
    {
        var tokens = new string?[parts.Vocabulary.Values.Concat(parts.Added.Select(token => token.Id)).DefaultIfEmpty(-1).Max() + 1];
        foreach ((string token, int id) in parts.Vocabulary)
        {
            tokens[id] = tokens[id] is { } other
                ? throw new InvalidInputException($"Cannot read tokenizer '{parts.Source}': id {id} belongs to '{other}' and to '{token}'; the file is damaged.")
                : token;
        }

        foreach (AddedToken token in parts.Added)
        {
            if (tokens[token.Id] is { } other && other != token.Content)
            {
                throw new InvalidInputException($"Cannot read tokenizer '{parts.Source}': id {token.Id} belongs to '{other}' and to '{token.Content}'; the file is damaged.");
            }

            tokens[token.Id] = token.Content;
        }

        return tokens;
    }

    /// <summary>The bytes that each token of the model covers in words.</summary>
    private static byte[][] UnitsById(TokenizerParts parts, bool isByteLevel)
    {
        HashSet<string> added = [.. parts.Added.Select(token => token.Content)];
        var units = new byte[parts.Vocabulary.Values.DefaultIfEmpty(-1).Max() + 1][];
        Array.Fill(units, []);
        foreach ((string token, int id) in parts.Vocabulary)
        {
            byte[]? unit = isByteLevel ? ByteAlphabet.TryRead(token) : Encoding.UTF8.GetBytes(token);
            if ((unit is null || unit.Length == 0) && !added.Contains(token))
            {
                throw new InvalidInputException($"Cannot read tokenizer '{parts.Source}': token '{token}' (id {id}) is empty or not written in the byte-level alphabet, which its pre_tokenizer ByteLevel asks for; the file is damaged.");
            }

            units[id] = unit ?? [];
        }

        return units;
    }

    /// <summary>
    /// What a blank becomes in text that stays whole. If tokens hold that mark and none holds a blank, they are rewritten to hold blanks for marks, and text can stay as it is.
    /// </summary>
    private byte[] TakeMarkOut(PreTokenizerReader reader, byte[][] units)
    {
        bool dropsStart = false;
        byte[] mark = reader.Mark is { } visible ? Encoding.UTF8.GetBytes(visible) : normalizer?.Apply(" "u8, continues: true, ref dropsStart) ?? [];
        bool isWhole = reader.Result is null or MetaspacePreTokenizer { Splits: false };
        if (!isWhole || reader.IsByteLevel || mark.Length == 0 || units.Any(unit => unit.Contains((byte)' ')) || !units.Any(unit => unit.AsSpan().SequenceEqual(mark)))
        {
            return [];
        }

        for (int id = 0; id < units.Length; id++)
        {
            units[id] = ReplaceNormalizer.Replace(units[id], mark, " "u8) ?? units[id];
        }

        return mark;
    }

    /// <summary>Where the file leaves text whole, words are cut where no merge can reach across.</summary>
    private PreTokenizer WithMergeBoundaries(PreTokenizerReader reader, byte[][] units, byte[] mark)
    {
        MergeBoundaries boundaries = Model.AllowsCuts ? MergeBoundaries.Of(units, value => Model.IsToken([value])) : MergeBoundaries.None;
        return reader.Result switch
        {
            null => new WholeTextPreTokenizer(mark, PrependScheme.Never, boundaries),
            MetaspacePreTokenizer { Splits: false } whole when mark.Length > 0 => new WholeTextPreTokenizer(mark, whole.Scheme, boundaries),
            PreTokenizer cutting => cutting,
        };
    }

    private void EncodePiece(ReadOnlySpan<byte> text, bool continues, bool isFirst, bool recogniseSpecial, BytePairScratch scratch)
    {
        bool dropsStart = false;
        text = normalizer?.Apply(text, continues, ref dropsStart) ?? text;
        bool isAtStart = isFirst && !continues && !dropsStart;
        int position = 0;
        AddedTokens.Search search = normalizedTokens.In(text, recogniseSpecial);
        while (search.MoveNext())
        {
            if (position < search.Start)
            {
                preTokenizer.Cut(text[position..search.Start], isAtStart && position == 0, scratch);
            }

            scratch.Output.Append(search.Id);
            position = search.End;
        }

        if (position < text.Length)
        {
            preTokenizer.Cut(text[position..], isAtStart && position == 0, scratch);
        }
    }
}
