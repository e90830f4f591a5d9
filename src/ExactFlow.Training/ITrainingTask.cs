using ExactFlow.Operators;
using ExactFlow.Tensors;

namespace ExactFlow.Training;

/// <summary>What a <see cref="Trainer"/> trains: a model, its loss, and how to look at it from time to time.</summary>
public interface ITrainingTask
{
    /// <summary>Where the model lives.</summary>
    Device Device { get; }

    /// <summary>What training changes.</summary>
    IReadOnlyList<Parameter> Parameters { get; }

    /// <summary>The mean loss of a batch in nats, recorded for differentiation in the open step.</summary>
    /// <param name="inputs">Int32 [batch, time].</param>
    /// <param name="targets">Int32 [batch, time].</param>
    Tensor Loss(Tensor inputs, Tensor targets);

    /// <summary>The mean loss of a packed row, none of whose documents sees another.</summary>
    /// <param name="inputs">Int32 [1, time].</param>
    /// <param name="targets">Int32 [1, time].</param>
    /// <param name="documents">Where documents begin and end.</param>
    Tensor Loss(Tensor inputs, Tensor targets, SequenceOffsets documents)
        => throw new InvalidInputException("This model does not read packed sequences: set data.packing=stream.");

    /// <summary>Floating-point operations of training on one token (forward and backward) in sequences of a length.</summary>
    double FlopsPerToken(int sequenceLength);

    /// <summary>Measures the model on what it is not trained on; opens its own steps. Must not change the model.</summary>
    ValidationResult Validate();

    /// <summary>Lets the model write; null when it cannot. A function of the weights and <paramref name="step"/> alone.</summary>
    SampleText? Sample(int step);

    /// <summary>Writes <c>model.safetensors</c> and what else a reader of the model needs into a checkpoint's folder.</summary>
    void SaveModel(string folder);

    /// <summary>Reads the weights back, bit for bit.</summary>
    void LoadModel(string folder);
}

/// <summary>What a validation found.</summary>
/// <param name="Loss">Nats per token, the mean over all tokens.</param>
/// <param name="BitsPerByte">Bits per byte of text, or NaN where the targets are not text.</param>
public readonly record struct ValidationResult(double Loss, double BitsPerByte)
{
    /// <summary>exp of the loss.</summary>
    public double Perplexity => Math.Exp(Loss);
}

/// <summary>What a model wrote.</summary>
/// <param name="Prompt">What it was given.</param>
/// <param name="Text">Its continuation, the prompt not included.</param>
public sealed record SampleText(string Prompt, string Text);
