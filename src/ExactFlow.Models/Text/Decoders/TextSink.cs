using System.Text;

namespace ExactFlow.Models.Text.Decoders;

/// <summary>The end of decoding: text that was not taken away yet.</summary>
internal sealed class TextSink : PieceSink
{
    private readonly StringBuilder text = new();

    /// <inheritdoc/>
    public override void Take(ReadOnlySpan<char> text, bool beginsToken) => this.text.Append(text);

    /// <inheritdoc/>
    public override void Finish()
    {
    }

    /// <summary>Takes the text away.</summary>
    public string Flush()
    {
        string result = text.ToString();
        text.Clear();
        return result;
    }
}
