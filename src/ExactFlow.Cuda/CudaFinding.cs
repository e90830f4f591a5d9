namespace ExactFlow.Cuda;

/// <summary>One thing that GPUs need, as <see cref="CudaDiagnosis"/> found it.</summary>
/// <param name="What">The thing, such as <c>GPU driver</c>.</param>
/// <param name="Found">What is there, or null.</param>
/// <param name="Missing">Null, or the sentence that says what is wrong and what to do.</param>
public readonly record struct CudaFinding(string What, string? Found, string? Missing);
