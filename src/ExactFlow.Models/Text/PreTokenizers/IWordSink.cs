namespace ExactFlow.Models.Text.PreTokenizers;

/// <summary>Takes words one after another: the next pre-tokenizer, or the model.</summary>
internal interface IWordSink
{
    /// <summary>Takes a word that is not empty.</summary>
    /// <param name="word">Its bytes, valid during the call.</param>
    /// <param name="isAtStart">Whether the whole text begins with it.</param>
    void Take(ReadOnlySpan<byte> word, bool isAtStart);
}
