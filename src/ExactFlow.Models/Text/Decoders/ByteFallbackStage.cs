using System.Globalization;
using System.Text;

namespace ExactFlow.Models.Text.Decoders;

/// <summary>
/// Runs of byte tokens (<c>&lt;0xE2&gt;</c>) become the text they spell, or, if the run as a whole is no UTF-8, one U+FFFD for each byte. A run is therefore kept back until another
/// token or the end shows that it is over.
/// </summary>
internal sealed class ByteFallbackStage(PieceSink next) : DecoderStage(next)
{
    private readonly List<byte> run = [];

    /// <summary>The byte that a token stands for, or -1.</summary>
    public static int ByteOf(ReadOnlySpan<char> token)
        => token.Length == 6 && token.StartsWith("<0x") && token[5] == '>' && byte.TryParse(token[3..5], NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out byte value) ? value : -1;

    /// <inheritdoc/>
    public override void Take(ReadOnlySpan<char> text, bool beginsToken)
    {
        int value = ByteOf(text);
        if (value >= 0)
        {
            run.Add((byte)value);
            return;
        }

        EndRun();
        Next.Take(text, beginsToken: true);
    }

    /// <inheritdoc/>
    public override void Finish()
    {
        EndRun();
        Next.Finish();
    }

    private void EndRun()
    {
        if (run.Count == 0)
        {
            return;
        }

        byte[] bytes = [.. run];
        run.Clear();
        if (System.Text.Unicode.Utf8.IsValid(bytes))
        {
            Next.Take(Encoding.UTF8.GetString(bytes), beginsToken: true);
            return;
        }

        for (int i = 0; i < bytes.Length; i++)
        {
            Next.Take("\uFFFD", beginsToken: true);
        }
    }
}
