namespace ExactFlow.Training;

/// <summary>Is told what happens during a comparison.</summary>
public interface IComparisonObserver
{
    /// <summary>A stage begins, in a few words: learning the tokenizer, training, scoring.</summary>
    void OnStage(string stage);

    /// <summary>The texts are tokenized.</summary>
    void OnText(TokenizedText text);

    /// <summary>Who is told about the run of a rule and a seed.</summary>
    ITrainingObserver Observe(string rule, int seed);
}
