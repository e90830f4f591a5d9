namespace ExactFlow.Training.Experiments;

/// <summary>A finished run of a study.</summary>
/// <typeparam name="TResult">What a run measures; properties become fields in snake_case.</typeparam>
/// <param name="Run">The run's name, such as <c>efla lr=0.003 seed=42</c>; unique within a study.</param>
/// <param name="Device">What computed it, such as <c>NVIDIA H200</c>.</param>
/// <param name="Commit">The commit of the program, or null where the build did not know.</param>
/// <param name="Seconds">Wall-clock time of the run, perhaps beside others on the same device.</param>
/// <param name="Result">What it measured.</param>
public sealed record StudyRecord<TResult>(string Run, string Device, string? Commit, double Seconds, TResult Result)
    where TResult : class;
