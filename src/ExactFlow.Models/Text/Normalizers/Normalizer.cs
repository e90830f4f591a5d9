using System.Text;

namespace ExactFlow.Models.Text.Normalizers;

/// <summary>Rewrites UTF-8 text before it is cut into words. Bytes that are no UTF-8 pass unchanged.</summary>
internal abstract class Normalizer
{
    /// <summary>
    /// Whether a text may be cut before any blank that follows something else, its parts rewritten by themselves (all but the first as continuations) and joined:
    /// long texts are encoded on several threads only then.
    /// </summary>
    public abstract bool IsLocal { get; }

    /// <summary>The rewritten text, or null if nothing changes.</summary>
    /// <param name="text">UTF-8.</param>
    /// <param name="continues">Whether more text stands directly before this one.</param>
    /// <param name="dropsStart">Set if what the text began with is gone: Metaspace then takes the rest for no start of a text.</param>
    public abstract byte[]? Apply(ReadOnlySpan<byte> text, bool continues, ref bool dropsStart);

    /// <summary>The rewritten form of a short text.</summary>
    public string Apply(string text)
    {
        bool dropsStart = false;
        return Apply(Encoding.UTF8.GetBytes(text), continues: false, ref dropsStart) is { } changed ? Encoding.UTF8.GetString(changed) : text;
    }
}
