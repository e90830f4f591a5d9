namespace ExactFlow.Tensors;

/// <summary>
/// What the user gave cannot be used. The message is one sentence that says what was being done, what was expected, what was found and what to do;
/// programs show it without a stack trace and end with exit code 2.
/// </summary>
public class InvalidInputException : Exception
{
    /// <summary>An error with the sentence to show.</summary>
    public InvalidInputException(string message)
        : base(message)
    {
    }

    /// <summary>An error with the sentence to show and what lay behind it.</summary>
    public InvalidInputException(string message, Exception inner)
        : base(message, inner)
    {
    }
}
