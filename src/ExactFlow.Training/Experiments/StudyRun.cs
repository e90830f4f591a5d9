namespace ExactFlow.Training.Experiments;

/// <summary>A run of a study that is to be done.</summary>
/// <typeparam name="TResult">What it measures.</typeparam>
/// <param name="Name">Readable and unique within the study, such as <c>efla lr=0.003 seed=42</c>: by it a finished run is known.</param>
/// <param name="Work">How long it takes beside the others, in any unit, such as tokens times epochs.</param>
/// <param name="Execute">
/// Does it, on the worker's device and from the worker's thread; tells <see cref="StudyWorker.Progress"/> how far it is, and ends with an
/// <see cref="OperationCanceledException"/> soon after <see cref="StudyWorker.Stop"/> asks for it. What it measures must not depend on the worker.
/// </param>
public sealed record StudyRun<TResult>(string Name, double Work, Func<StudyWorker, TResult> Execute)
    where TResult : class;
