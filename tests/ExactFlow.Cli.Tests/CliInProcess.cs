using ExactFlow.Cli.Parsing;
using ExactFlow.Cuda;
using ExactFlow.Testing;
using ExactFlow.Testing.Emulation;

namespace ExactFlow.Cli.Tests;

/// <summary>The command line within the test's process, where <c>--device cuda</c> can stand for the emulated GPU. One run at a time.</summary>
internal static class CliInProcess
{
    private static readonly Lock OneAtATime = new();

    /// <summary>Runs a command on a device of <see cref="CudaTestDevices"/>; skips the test where that device is missing.</summary>
    /// <param name="device">Its name.</param>
    /// <param name="bytes">Memory of the emulated GPU.</param>
    /// <param name="arguments">The command line, in which <c>cuda</c> is that device.</param>
    public static CliResult Run(string device, long bytes, params IEnumerable<string> arguments)
    {
        CudaTestDevices.Open(device).Dispose();
        lock (OneAtATime)
        {
            TextWriter output = Console.Out, error = Console.Error;
            var written = new StringWriter();
            var complained = new StringWriter();
            try
            {
                Console.SetOut(written);
                Console.SetError(complained);
                if (device == CudaTestDevices.Emulated)
                {
                    CommonOptions.OpenDevice = (name, threads) => name.StartsWith("cuda", StringComparison.Ordinal)
                        ? CudaTestDevices.OpenEmulated(new EmulatedCudaDriver { TotalBytes = (nuint)bytes })
                        : DeviceFactory.Parse(name, threads);
                }

                int exitCode = CommandLine.Run([.. arguments]);
                return new CliResult(exitCode, written.ToString(), complained.ToString());
            }
            finally
            {
                CommonOptions.OpenDevice = DeviceFactory.Parse;
                Console.SetOut(output);
                Console.SetError(error);
            }
        }
    }

    /// <inheritdoc cref="Run(string, long, IEnumerable{string})"/>
    public static CliResult Run(string device, params IEnumerable<string> arguments) => Run(device, 1L << 30, arguments);
}
