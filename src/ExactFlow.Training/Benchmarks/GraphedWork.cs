using ExactFlow.Cuda;
using ExactFlow.Tensors.Memory;

namespace ExactFlow.Training.Benchmarks;

/// <summary>
/// Work captured as a graph of several repetitions, so that launches and waits do not count. Its memory is set apart, so that replays write into nobody else's.
/// </summary>
internal sealed class GraphedWork : IDisposable
{
    private const int WarmUps = 3;
    private readonly int repetitions;
    private readonly PoolReservation reservation;
    private readonly CudaGraph graph;

    /// <summary>Runs the work a few times, so that kernels are compiled and memory is there, and captures repetitions of it.</summary>
    public GraphedWork(CudaDevice device, int repetitions, Action once)
    {
        this.repetitions = repetitions;
        reservation = device.Pool.Reserve();
        try
        {
            using PoolReservation.Opening opening = reservation.Open();
            for (int i = 0; i < WarmUps; i++)
            {
                once();
            }

            graph = device.Capture(() =>
            {
                for (int i = 0; i < repetitions; i++)
                {
                    once();
                }
            });
        }
        catch
        {
            reservation.Dispose();
            throw;
        }
    }

    /// <summary>The work in a comparison.</summary>
    /// <param name="name">Shown in the table.</param>
    /// <param name="work">Units of work of doing it once, where it differs from the case's.</param>
    /// <param name="bytes">Bytes that doing it once must move, or 0.</param>
    /// <param name="flops">Its floating-point operations, or 0.</param>
    public Contender AsContender(string name, double? work = null, double bytes = 0, double flops = 0)
        => new(name, graph.Launch, work) { Repetitions = repetitions, IsQueued = true, Bytes = bytes, Flops = flops };

    /// <inheritdoc/>
    public void Dispose()
    {
        graph.Dispose();
        reservation.Dispose();
    }
}
