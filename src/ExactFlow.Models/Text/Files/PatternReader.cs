namespace ExactFlow.Models.Text.Files;

/// <summary>Reads a pattern: <c>{"String": ...}</c> or <c>{"Regex": ...}</c>.</summary>
internal static class PatternReader
{
    /// <summary>The text to look for, or null and the regular expression.</summary>
    /// <exception cref="Tensors.InvalidInputException">Neither, or an expression in a syntax that the framework has not.</exception>
    public static string? Read(JsonPart part, out CodePointPattern? regex)
    {
        regex = null;
        if (part.Find("String") is { } text)
        {
            return text.Text();
        }

        JsonPart expression = part.Find("Regex") ?? throw part.Wrong("have 'String' or 'Regex'", "neither is there");
        try
        {
            regex = new CodePointPattern(expression.Text());
            return null;
        }
        catch (ArgumentException exception)
        {
            throw expression.Unsupported($"the pattern '{expression.Text()}' ({exception.Message.TrimEnd('.')})");
        }
    }
}
