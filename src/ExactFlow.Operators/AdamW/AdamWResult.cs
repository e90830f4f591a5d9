namespace ExactFlow.Operators;

/// <summary>What came of an optimizer step.</summary>
/// <param name="GradientNorm">Global norm of the scaled gradients before clipping; NaN or infinite when a gradient element is.</param>
/// <param name="Applied">Whether parameters and moments were changed: false, with nothing touched, when the norm is not finite.</param>
public readonly record struct AdamWResult(double GradientNorm, bool Applied);
