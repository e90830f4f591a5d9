namespace ExactFlow.Operators;

/// <summary>The three scalars of a token and head in <c>S_t = g (I - e k k^T) S_{t-1} + w k v^T</c>.</summary>
/// <param name="LogDecay">ln g. In logs because a chunk multiplies many of them.</param>
/// <param name="Erase">e.</param>
/// <param name="Write">w.</param>
public readonly record struct DeltaCoefficients(double LogDecay, double Erase, double Write);

/// <summary>Partial derivatives of <see cref="DeltaCoefficients"/> with respect to the inputs of a token.</summary>
public readonly record struct DeltaCoefficientSlopes
{
    /// <summary>de/dbeta.</summary>
    public double EraseByBeta { get; init; }

    /// <summary>de/dlambda.</summary>
    public double EraseByLambda { get; init; }

    /// <summary>de/dlog_decay.</summary>
    public double EraseByLogDecay { get; init; }

    /// <summary>dw/dbeta.</summary>
    public double WriteByBeta { get; init; }

    /// <summary>dw/dlambda.</summary>
    public double WriteByLambda { get; init; }

    /// <summary>dw/dlog_decay.</summary>
    public double WriteByLogDecay { get; init; }

    /// <summary>d(ln g)/dlog_decay.</summary>
    public double LogDecayByLogDecay { get; init; }
}
