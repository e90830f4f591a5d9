using System.ComponentModel;
using System.ComponentModel.DataAnnotations;

namespace ExactFlow.Training.Options;

/// <summary>What is looked at while training runs.</summary>
public sealed record EvaluationOptions
{
    /// <summary>Steps between validations; 0: only after the last step.</summary>
    [Description("steps between validations; 0 = only after the last step")]
    [Range(0, int.MaxValue)]
    public int Every { get; init; } = 100;

    /// <summary>Windows of each validation, always the same, spread over the validation text; fewer when the text has fewer.</summary>
    [Description("windows of each validation, the same every time, spread over the validation text")]
    [Range(1, int.MaxValue)]
    public int Windows { get; init; } = 32;

    /// <summary>Steps between samples; 0: only after the last step.</summary>
    [Description("steps between text samples; 0 = only after the last step")]
    [Range(0, int.MaxValue)]
    public int SampleEvery { get; init; } = 100;

    /// <summary>Tokens of each sample.</summary>
    [Description("tokens of each sample; 0 = no samples")]
    [Range(0, 1 << 20)]
    public int SampleTokens { get; init; } = 48;

    /// <summary>What each sample continues.</summary>
    [Description("what each sample continues")]
    public string Prompt { get; init; } = "The";

    /// <summary>Sampling temperature.</summary>
    [Description("temperature of the samples; 0 = always the likeliest token")]
    [Range(0, 100)]
    public double Temperature { get; init; } = 0.8;
}
