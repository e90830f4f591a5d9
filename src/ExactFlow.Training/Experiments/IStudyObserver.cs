namespace ExactFlow.Training.Experiments;

/// <summary>Is told how a study goes, by any of its threads, one at a time.</summary>
public interface IStudyObserver
{
    /// <summary>Runs are about to be done.</summary>
    /// <param name="runs">How many the study asks for.</param>
    /// <param name="finished">How many of these were finished before.</param>
    /// <param name="workers">How many are done at once.</param>
    void OnBegin(int runs, int finished, int workers);

    /// <summary>A worker is at a run.</summary>
    void OnProgress(StudyProgress progress);

    /// <summary>A run is finished and on disk.</summary>
    /// <param name="run">Its name.</param>
    /// <param name="seconds">How long it took.</param>
    /// <param name="summary">What came out, in a few words.</param>
    /// <param name="progress">The study as a whole.</param>
    void OnFinished(string run, double seconds, string summary, StudyProgress progress);
}
