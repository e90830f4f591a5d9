namespace ExactFlow.Cli;

/// <summary>What the process reports to its caller.</summary>
internal static class ExitCode
{
    /// <summary>Done.</summary>
    public const int Success = 0;

    /// <summary>A fault of the program.</summary>
    public const int Fault = 1;

    /// <summary>What the user gave cannot be used.</summary>
    public const int InvalidInput = 2;

    /// <summary>Stopped by Ctrl-C, as shells expect: 128 + SIGINT.</summary>
    public const int Interrupted = 130;
}
