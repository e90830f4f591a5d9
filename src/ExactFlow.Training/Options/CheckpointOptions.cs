using System.ComponentModel;
using System.ComponentModel.DataAnnotations;

namespace ExactFlow.Training.Options;

/// <summary>When checkpoints are written and which are kept.</summary>
public sealed record CheckpointOptions
{
    /// <summary>Steps between checkpoints; 0: only after the last step and when the run is stopped.</summary>
    [Description("steps between checkpoints; 0 = only after the last step and when the run is stopped")]
    [Range(0, int.MaxValue)]
    public int Every { get; init; } = 200;

    /// <summary>Newest checkpoints to keep.</summary>
    [Description("newest checkpoints to keep; older ones are deleted")]
    [Range(1, int.MaxValue)]
    public int KeepLast { get; init; } = 2;

    /// <summary>Whether the checkpoint with the best validation loss is kept too, whatever its age. It is written whenever a validation sets a record.</summary>
    [Description("whether the checkpoint with the best validation loss is written and kept too")]
    public bool KeepBest { get; init; } = true;
}
