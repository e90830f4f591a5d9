namespace ExactFlow.Training.Data.Downloads;

/// <summary>How a download deals with what goes wrong.</summary>
public sealed record DownloadOptions
{
    /// <summary>Tries of each mirror, one after another.</summary>
    public int Rounds { get; init; } = 3;

    /// <summary>A server that sends nothing for so long has stalled: the try ends, and the next goes on where it was.</summary>
    public TimeSpan Stall { get; init; } = TimeSpan.FromSeconds(30);

    /// <summary>Pause before the second round; doubled with every further one.</summary>
    public TimeSpan Pause { get; init; } = TimeSpan.FromSeconds(1);
}
