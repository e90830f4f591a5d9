using System.Text;

namespace ExactFlow.Models.Text.Decoders;

/// <summary>Replaces within each token. Where all tokens have become one, that is kept back until the end, since a match may reach over pieces.</summary>
/// <param name="replace">The replacement in one token.</param>
/// <param name="isFused">Whether all tokens have become one.</param>
/// <param name="next">Takes the results.</param>
internal sealed class ReplaceStage(Func<string, string> replace, bool isFused, PieceSink next) : DecoderStage(next)
{
    private readonly StringBuilder whole = new();

    /// <inheritdoc/>
    public override void Take(ReadOnlySpan<char> text, bool beginsToken)
    {
        if (isFused)
        {
            whole.Append(text);
        }
        else
        {
            Next.Take(replace(text.ToString()), beginsToken);
        }
    }

    /// <inheritdoc/>
    public override void Finish()
    {
        if (isFused)
        {
            Next.Take(replace(whole.ToString()), beginsToken: true);
        }

        Next.Finish();
    }
}
