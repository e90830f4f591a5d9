using System.Runtime.InteropServices;
using ExactFlow.Cuda;
using ExactFlow.Tensors;

namespace ExactFlow.Operators;

/// <summary>
/// All parameters that have a gradient, cut into chunks, as a table on the GPU: one launch covers all of them, and many small ones cost no more than a
/// large one. The table stays as long as gradients stay where they are, which those of parameters do, so a repeated step copies nothing.
/// </summary>
internal sealed unsafe class CudaParameterTable : IDisposable
{
    /// <summary>Elements of every chunk but a parameter's last one, the work of one block of threads: several rounds of them, or one where the blocks would not fill a GPU.</summary>
    private const int ChunkSize = 1 << 13, ChunkSizeOfFew = 1 << 10;

    /// <summary>Elements from which on there are enough chunks. The same on every GPU, since sums are taken chunk by chunk.</summary>
    private const long Many = 1 << 22;

    private readonly CudaDevice device;
    private readonly IReadOnlyList<Parameter> parameters;
    private readonly IReadOnlyList<Tensor>? firstMoments;
    private readonly IReadOnlyList<Tensor>? secondMoments;
    private readonly (nint Gradient, nint Working)[] known;
    private Tensor? table;

    /// <summary>A table of some parameters; empty until <see cref="Update"/>.</summary>
    /// <param name="device">Where they are.</param>
    /// <param name="parameters">The parameters.</param>
    /// <param name="firstMoments">One per parameter, or null when only gradients are read.</param>
    /// <param name="secondMoments">One per parameter, or null when only gradients are read.</param>
    public CudaParameterTable(
        CudaDevice device, IReadOnlyList<Parameter> parameters, IReadOnlyList<Tensor>? firstMoments = null, IReadOnlyList<Tensor>? secondMoments = null)
    {
        this.device = device;
        this.parameters = parameters;
        this.firstMoments = firstMoments;
        this.secondMoments = secondMoments;
        known = new (nint, nint)[parameters.Count];
    }

    /// <summary>Chunks in the table.</summary>
    public int Count { get; private set; }

    /// <summary>Device address of the first chunk; meaningless without any.</summary>
    public nint Address => table?.Address ?? 0;

    /// <summary>Brings the table up to date: nothing when every gradient is where it was.</summary>
    public void Update()
    {
        bool isCurrent = true;
        for (int i = 0; i < known.Length; i++)
        {
            (nint, nint) now = (parameters[i].Value.Grad?.Address ?? 0, parameters[i].WorkingCopy?.Address ?? 0);
            isCurrent &= known[i] == now;
            known[i] = now;
        }

        if (isCurrent)
        {
            return;
        }

        try
        {
            Rebuild();
        }
        catch
        {
            Array.Clear(known);
            throw;
        }
    }

    /// <summary>Releases the table.</summary>
    public void Dispose()
    {
        table?.Dispose();
        table = null;
        Count = 0;
    }

    private void Rebuild()
    {
        long elements = Enumerable.Range(0, known.Length).Sum(i => known[i].Gradient == 0 ? 0 : parameters[i].Value.Count);
        int size = elements < Many ? ChunkSizeOfFew : ChunkSize;
        var chunks = new List<Chunk>();
        for (int i = 0; i < known.Length; i++)
        {
            for (long start = 0; known[i].Gradient != 0 && start < parameters[i].Value.Count; start += size)
            {
                chunks.Add(ChunkOf(i, start, size));
            }
        }

        Dispose();
        if (chunks.Count > 0)
        {
            table = device.Persistent([checked(chunks.Count * (sizeof(Chunk) / sizeof(int)))], DType.Int32);
            table.CopyFrom<int>(MemoryMarshal.Cast<Chunk, int>(CollectionsMarshal.AsSpan(chunks)));
            Count = chunks.Count;
        }
    }

    private Chunk ChunkOf(int i, long start, int size)
    {
        Parameter parameter = parameters[i];
        nint offset = (nint)(start * sizeof(float));
        return new Chunk
        {
            Gradient = known[i].Gradient + offset,
            Value = parameter.Value.Address + offset,
            First = firstMoments is null ? 0 : firstMoments[i].Address + offset,
            Second = secondMoments is null ? 0 : secondMoments[i].Address + offset,
            Working = known[i].Working == 0 ? 0 : known[i].Working + (nint)(start * sizeof(ushort)),
            Length = (int)Math.Min(size, parameter.Value.Count - start),
            Decays = parameter.WeightDecay ? 1 : 0,
        };
    }

    /// <summary><c>ParameterChunk</c> of parameter_chunk.cuh.</summary>
    [StructLayout(LayoutKind.Sequential)]
    private struct Chunk
    {
        public nint Gradient, Value, First, Second, Working;
        public int Length, Decays;
    }
}
