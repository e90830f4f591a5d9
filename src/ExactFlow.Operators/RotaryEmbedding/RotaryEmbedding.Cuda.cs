using System.Runtime.InteropServices;
using ExactFlow.Cuda;
using ExactFlow.Tensors;

namespace ExactFlow.Operators;

public static partial class RotaryEmbedding
{
    private const string CudaSource = "rotary_embedding.cu";
    private static readonly KernelName Pieces = KernelName.Of("rotate_pieces");
    private static readonly KernelName Elements = KernelName.Of("rotate_elements");

    /// <summary>y (+)= x turned; <paramref name="documents"/> holds the offsets of a packed row on the device.</summary>
    private static void Rotate(CudaDevice device, Tensor x, CudaTarget y, int position, float theta, Tensor? documents, bool backwards)
    {
        if (x.Count == 0)
        {
            return;
        }

        (int time, int heads, int dim) = (x.Shape[1], x.Shape[2], x.Shape[3]);
        int piece = CudaUnits.Piece(x.DType);
        bool pieces = dim / 2 % piece == 0 && CudaUnits.AreAligned(x.Address, y.Address);
        var arguments = new Arguments
        {
            Y = y,
            X = x.Address,
            Turns = device.Constants.Address($"rotary embedding of {dim} to the base {theta:R}", () => Turns(dim, theta)),
            Offsets = documents?.Address ?? 0,
            Tokens = (long)x.Shape[0] * time,
            Time = time,
            Documents = documents is null ? 0 : documents.Shape[0] - 1,
            Position = position,
            Heads = heads,
            Units = pieces ? dim / 2 / piece : dim / 2,
            Backwards = backwards ? 1 : 0,
        };

        // As many heads per thread as leave enough threads to keep the GPU busy.
        long threads = arguments.Tokens * arguments.Units;
        long groups = Math.Clamp(1024L * device.MultiprocessorCount / threads, 1, heads);
        arguments.HeadsPerThread = (int)((heads + groups - 1) / groups);
        CudaLaunch.Run(device, CudaSource, pieces ? Pieces : Elements, x.DType, CudaLaunch.Grid(device, threads * groups), arguments);
    }

    /// <summary>Turns per position of each pair, theta^(-2i/dim) / 2 pi, as the halves of float64 numbers.</summary>
    private static int[] Turns(int dim, float theta)
    {
        var turns = new double[dim / 2];
        for (int i = 0; i < turns.Length; i++)
        {
            turns[i] = Math.Pow(theta, -2.0 * i / dim) / Math.Tau;
        }

        return MemoryMarshal.Cast<double, int>(turns).ToArray();
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct Arguments
    {
        public CudaTarget Y;
        public nint X, Turns, Offsets;
        public long Tokens;
        public int Time, Documents, Position, Heads, HeadsPerThread, Units, Backwards;
    }
}
