namespace ExactFlow.Training;

/// <summary>Is told what happens during training; shows it, or not. Called on the training thread.</summary>
public interface ITrainingObserver
{
    /// <summary>A step is done.</summary>
    void OnStep(in StepRecord step);

    /// <summary>The model was validated after a step.</summary>
    void OnValidation(int step, ValidationResult result);

    /// <summary>The model wrote something after a step.</summary>
    void OnSample(int step, SampleText sample);

    /// <summary>A checkpoint is complete.</summary>
    void OnCheckpoint(int step, string folder);

    /// <summary>Something the user should know, in a sentence: a damaged checkpoint passed over, a step not applied.</summary>
    void OnWarning(string sentence);
}

/// <summary>An observer that shows nothing.</summary>
public sealed class SilentObserver : ITrainingObserver
{
    /// <summary>The only instance needed.</summary>
    public static SilentObserver Instance { get; } = new();

    /// <inheritdoc/>
    public void OnStep(in StepRecord step)
    {
    }

    /// <inheritdoc/>
    public void OnValidation(int step, ValidationResult result)
    {
    }

    /// <inheritdoc/>
    public void OnSample(int step, SampleText sample)
    {
    }

    /// <inheritdoc/>
    public void OnCheckpoint(int step, string folder)
    {
    }

    /// <inheritdoc/>
    public void OnWarning(string sentence)
    {
    }
}
