using ExactFlow.Tensors;

namespace ExactFlow.Operators;

/// <summary>The constants of <see cref="AdamW"/>.</summary>
public sealed record AdamWOptions
{
    /// <summary>Decay of the gradient's running mean, in [0, 1).</summary>
    public double Beta1 { get; init; } = 0.9;

    /// <summary>Decay of the squared gradient's running mean, in [0, 1).</summary>
    public double Beta2 { get; init; } = 0.95;

    /// <summary>Added to the square root of the second moment; positive.</summary>
    public double Epsilon { get; init; } = 1e-8;

    /// <summary>Decoupled weight decay of parameters that want it: each step shrinks them by learning rate times this; at least 0.</summary>
    public double WeightDecay { get; init; } = 0.1;

    /// <summary>Checks the ranges.</summary>
    /// <exception cref="InvalidInputException">A constant is out of its range; the sentence names it.</exception>
    public void Validate()
    {
        if (!(Beta1 >= 0 && Beta1 < 1))
        {
            throw new InvalidInputException($"AdamW expects beta1 in [0, 1), but it is {Beta1}; 0.9 is usual.");
        }

        if (!(Beta2 >= 0 && Beta2 < 1))
        {
            throw new InvalidInputException($"AdamW expects beta2 in [0, 1), but it is {Beta2}; 0.95 is usual.");
        }

        if (!(Epsilon > 0 && double.IsFinite(Epsilon)))
        {
            throw new InvalidInputException($"AdamW expects a positive finite epsilon, but it is {Epsilon}; 1e-8 is usual.");
        }

        if (!(WeightDecay >= 0 && double.IsFinite(WeightDecay)))
        {
            throw new InvalidInputException($"AdamW expects a finite weight decay of at least 0, but it is {WeightDecay}; 0.1 is usual.");
        }
    }
}
