using System.Runtime.InteropServices;

namespace ExactFlow.Cli;

/// <summary>
/// Ctrl-C and the request to terminate. They end the process, as usual, until a command asks to stop cleanly; then the first one only cancels a token, and a second one ends the process.
/// </summary>
internal sealed class Interruption : IDisposable
{
    private readonly CancellationTokenSource source = new();
    private PosixSignalRegistration[] registrations = [];

    /// <summary>From now on the first signal cancels the token that is returned.</summary>
    public CancellationToken StopCleanly()
    {
        registrations = [PosixSignalRegistration.Create(PosixSignal.SIGINT, Handle), PosixSignalRegistration.Create(PosixSignal.SIGTERM, Handle)];
        return source.Token;
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        foreach (PosixSignalRegistration registration in registrations)
        {
            registration.Dispose();
        }

        source.Dispose();
    }

    private void Handle(PosixSignalContext context)
    {
        context.Cancel = !source.IsCancellationRequested;
        source.Cancel();
    }
}
