using ExactFlow.Models.Text;

namespace ExactFlow.Training;

/// <summary>The special token that documents begin with where nobody names one.</summary>
internal static class DocumentToken
{
    /// <summary>Tokens that end or begin texts in the usual vocabularies, in the order of preference.</summary>
    private static readonly string[] Usual = [TokenizedText.EndOfTextToken, "<s>", "<|begin_of_text|>", "<bos>"];

    /// <summary>All of them, for messages.</summary>
    public static string Names => string.Join(" or ", Usual);

    /// <summary>The content of the token that a tokenizer has, or null.</summary>
    public static string? Find(BytePairTokenizer tokenizer) => Usual.FirstOrDefault(tokenizer.SpecialTokens.ContainsKey);
}
