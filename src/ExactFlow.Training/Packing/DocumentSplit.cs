using ExactFlow.Tensors;

namespace ExactFlow.Training.Packing;

/// <summary>Divides the documents of a packed corpus into those to train on and those held out.</summary>
internal static class DocumentSplit
{
    /// <summary>
    /// Holds out whole documents, those with the smallest keys, until they have about the wanted part of the tokens. Keys are hashes of the texts: the choice depends on nothing else, and a
    /// text that stands twice is on one side. Where no documents come to between half and one and a half times the wanted part, the end of the last documents is held out.
    /// </summary>
    public static (PackedTokens Training, PackedTokens HeldOut) Divide(PackedCorpus corpus, double fraction)
    {
        double wanted = corpus.Tokens * fraction;
        bool[]? held = Choose(corpus, wanted);
        List<(long Start, long Tokens)> training = [], heldOut = [];
        long cut = held is not null ? long.MaxValue : corpus.Tokens - (long)wanted;
        for (int document = 0; document < corpus.Documents; document++)
        {
            long start = corpus.Start(document), end = corpus.Start(document + 1);
            long middle = held is not null && held[document] ? start : Math.Clamp(cut, start, end);
            Add(training, start, middle);
            Add(heldOut, middle, end);
        }

        return (new PackedTokens(corpus, training), new PackedTokens(corpus, heldOut));
    }

    /// <summary>All documents.</summary>
    public static PackedTokens All(PackedCorpus corpus)
        => new(corpus, [.. Enumerable.Range(0, Count(corpus)).Select(document => (corpus.Start(document), Tokens(corpus, document)))]);

    /// <summary>Which documents to hold out; null if none come to about the wanted part.</summary>
    private static bool[]? Choose(PackedCorpus corpus, double wanted)
    {
        int count = Count(corpus);
        var keys = new ulong[count];
        var documents = new int[count];
        for (int i = 0; i < count; i++)
        {
            keys[i] = corpus.Key(i);
            documents[i] = i;
        }

        Array.Sort(keys, documents);
        var chosen = new bool[count];
        double sum = 0;
        for (int first = 0, end; first < count; first = end)
        {
            // Equal texts go together.
            long tokens = 0;
            for (end = first; end < count && keys[end] == keys[first]; end++)
            {
                tokens += Tokens(corpus, documents[end]);
            }

            if (sum < 0.9 * wanted && sum + tokens <= 1.5 * wanted)
            {
                sum += tokens;
                for (int i = first; i < end; i++)
                {
                    chosen[documents[i]] = true;
                }
            }
        }

        return sum >= 0.5 * wanted ? chosen : null;
    }

    private static int Count(PackedCorpus corpus) => corpus.Documents <= Array.MaxLength
        ? (int)corpus.Documents
        : throw new InvalidInputException($"The packed corpus '{corpus.Folder}' has {corpus.Documents} documents, more than {Array.MaxLength}; pack it as several.");

    private static long Tokens(PackedCorpus corpus, int document) => corpus.Start(document + 1) - corpus.Start(document);

    private static void Add(List<(long Start, long Tokens)> parts, long start, long end)
    {
        if (end > start)
        {
            parts.Add((start, end - start));
        }
    }
}
