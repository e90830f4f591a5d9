using System.Globalization;
using ExactFlow.Models.Text;
using ExactFlow.Tensors;
using ExactFlow.Training.Data;
using ExactFlow.Training.Options;

namespace ExactFlow.Training.Packing;

/// <summary>A packed corpus as the text of a recipe.</summary>
internal static class PackedText
{
    /// <summary>What a comparison looks at besides tokens: a description, and the bytes of the validation text, at most these.</summary>
    private const int MostDecodedTokens = 1 << 24;

    /// <summary>Opens the corpus of a recipe.</summary>
    /// <exception cref="InvalidInputException">It is missing or damaged, or the recipe names another text or tokenizer as well.</exception>
    public static PackedCorpus Open(DataOptions options)
    {
        if (options.Text.Length > 0)
        {
            throw new InvalidInputException($"Both data.text ('{options.Text[0]}') and data.packed ('{options.Packed}') were named; name one of them.");
        }

        PackedCorpus corpus = PackedCorpus.Open(options.Packed!);
        if (options.Tokenizer is { } path && PackedCorpus.HashOf(path) is { } hash && hash != corpus.Manifest.TokenizerHash)
        {
            corpus.Dispose();
            throw new InvalidInputException(
                $"The packed corpus '{options.Packed}' went through another tokenizer (SHA-256 {corpus.Manifest.TokenizerHash[..12]}…) than data.tokenizer '{path}' ({hash[..12]}…): leave data.tokenizer out, or pack the text again with that one.");
        }

        return corpus;
    }

    /// <summary>What there is to say about the corpus, and the bytes of the validation text.</summary>
    public static TextCorpus Load(DataOptions options)
    {
        using PackedCorpus corpus = Open(options);
        (PackedTokens training, ITokenSequence validation) = Divide(corpus, options);
        ReadOnlyMemory<byte> validationText = options.ValidationText.Length > 0 ? TextSource.Read(options.ValidationText, options.Field) : Decode(validation, corpus.LoadTokenizer());
        string heldOut = options.ValidationText.Length > 0 ? $"'{options.ValidationText[0]}'{(options.ValidationText.Length > 1 ? ", ..." : "")}" : Describe((PackedTokens)validation);
        return new TextCorpus($"packed corpus '{options.Packed}'", default, validationText, corpus.Manifest.Sources.Count, 0)
        {
            Description = $"packed corpus '{options.Packed}': {Describe(training)} to train on, {heldOut} held out",
        };
    }

    /// <summary>The documents to train on and those held out; all and none where a validation text is named.</summary>
    public static (PackedTokens Training, ITokenSequence Validation) Divide(PackedCorpus corpus, DataOptions options)
        => options.ValidationText.Length > 0 ? (DocumentSplit.All(corpus), new MemoryTokens([], [])) : DocumentSplit.Divide(corpus, options.ValidationFraction);

    /// <summary>The tokens of the validation text.</summary>
    /// <param name="options">The recipe.</param>
    /// <param name="heldOut">The documents held out.</param>
    /// <param name="tokenizer">The tokenizer.</param>
    /// <param name="text">The validation text where one was named.</param>
    /// <param name="most">Tokens of held-out documents to take at most.</param>
    /// <param name="threads">Threads that encode.</param>
    public static int[] ValidationIds(DataOptions options, ITokenSequence heldOut, BytePairTokenizer tokenizer, ReadOnlyMemory<byte> text, int most, int threads)
    {
        if (options.ValidationText.Length > 0)
        {
            return tokenizer.EncodeLong(text, threads, recogniseSpecialTokens: false);
        }

        var ids = new int[Math.Min(heldOut.Count, most)];
        heldOut.Copy(0, ids);
        return ids;
    }

    private static byte[] Decode(ITokenSequence tokens, BytePairTokenizer tokenizer)
    {
        var ids = new int[Math.Min(tokens.Count, MostDecodedTokens)];
        tokens.Copy(0, ids);
        return tokenizer.DecodeBytes(ids, skipSpecialTokens: true);
    }

    private static string Describe(PackedTokens tokens)
        => string.Create(CultureInfo.InvariantCulture, $"{tokens.Count:#,0} tokens of {tokens.Documents:#,0} document{(tokens.Documents == 1 ? "" : "s")}");
}
