using System.Text;
using ExactFlow.Models.Text.PreTokenizers;
using ExactFlow.Tensors;

namespace ExactFlow.Models.Text;

/// <summary>Learns the parts of a byte-level tokenizer; see <see cref="BytePairTokenizer.Train"/>.</summary>
internal static class TokenizerTraining
{
    /// <summary>Counts words, learns merges and numbers the tokens.</summary>
    /// <exception cref="InvalidInputException">The vocabulary is too small, a special token is empty, one character, or given twice, or there is no text.</exception>
    public static TokenizerParts Run(IEnumerable<ReadOnlyMemory<byte>> texts, int vocabularySize, IReadOnlyList<string> specialTokens, int threads)
    {
        ArgumentNullException.ThrowIfNull(texts);
        if (vocabularySize < 256 + specialTokens.Count)
        {
            throw new InvalidInputException(
                $"A vocabulary of {vocabularySize} tokens was asked for, but 256 bytes and {specialTokens.Count} special tokens need {256 + specialTokens.Count}; ask for more.");
        }

        if (specialTokens.Any(token => token.Length < 2) || specialTokens.Distinct(StringComparer.Ordinal).Count() != specialTokens.Count)
        {
            throw new InvalidInputException("A special token is empty, one character, or given twice; name each once, such as <|endoftext|>.");
        }

        AddedToken[] special = [.. specialTokens.Select((content, id) => new AddedToken(id, content) { IsSpecial = true })];
        AddedTokens search = new(special.Select(token => (token, Encoding.UTF8.GetBytes(token.Content))));
        WordCounter words = WordCounter.Count(texts, new Gpt2PreTokenizer(), search, threads > 0 ? threads : Environment.ProcessorCount);
        if (words.Words.Count == 0)
        {
            throw new InvalidInputException("A tokenizer cannot be trained on an empty text; give one with some sentences.");
        }

        MergeLearner learner = new(words);
        learner.Learn(vocabularySize - specialTokens.Count);
        return Number(learner, special);
    }

    private static TokenizerParts Number(MergeLearner learner, AddedToken[] special)
    {
        var ids = new int[learner.Tokens.Count];
        Dictionary<string, int> vocabulary = special.ToDictionary(token => token.Content, token => token.Id, StringComparer.Ordinal);
        IEnumerable<int> inOrder = ByteAlphabet.InOrder.Select(value => (int)value).Concat(Enumerable.Range(256, learner.Tokens.Count - 256));
        foreach (int learned in inOrder)
        {
            ids[learned] = vocabulary.Count;
            if (!vocabulary.TryAdd(ByteAlphabet.Write(learner.Tokens[learned]), vocabulary.Count))
            {
                throw new InvalidInputException($"The special token '{ByteAlphabet.Write(learner.Tokens[learned])}' was learned from the text as a word too; choose one that texts do not hold.");
            }
        }

        return new TokenizerParts
        {
            Source = "the trained tokenizer",
            Vocabulary = vocabulary,
            Merges = [.. learner.Merges.Select(merge => (ids[merge.Left], ids[merge.Right]))],
            Settings = new BytePairSettings(),
            Added = special,
        };
    }
}
