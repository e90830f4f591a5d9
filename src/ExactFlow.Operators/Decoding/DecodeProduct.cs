using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using ExactFlow.Cuda;
using ExactFlow.Tensors;

namespace ExactFlow.Operators;

/// <summary>
/// Products of the tokens of a few sequences with weight matrices, fused with what stands around them in a model: the RMSNorm before, and after
/// SiLU(gate) up, or the sum with the residual stream. Weights are bfloat16 <c>[outputs, inputs]</c>, sums float32.
/// </summary>
internal static class DecodeProduct
{
    /// <summary>Most matrices that one launch multiplies by.</summary>
    public const int MaxParts = 6;

    /// <summary>What the number of inputs must be a multiple of.</summary>
    public const int DepthMultiple = 8;

    private const string Source = "decode_product.cu";
    private const int Threads = 256;
    private const int Warps = Threads / 32;
    private const int TileRows = 8;
    private const int UnitDepth = 32;
    private const int PieceBytes = 16;

    /// <summary>y = norm(x) W^T for several W at once, their results side by side.</summary>
    /// <param name="device">Where everything lives.</param>
    /// <param name="x">The input.</param>
    /// <param name="weights">At most <see cref="MaxParts"/>, each with the first column of its result.</param>
    /// <param name="y">Float32 <c>[batch, columns]</c>.</param>
    public static void Store(CudaDevice device, in DecodeInput x, ReadOnlySpan<(Tensor Weight, int Column)> weights, Tensor y)
    {
        Arguments arguments = Arguments.Of(x);
        foreach ((Tensor weight, int column) in weights)
        {
            arguments.Add(weight, column);
        }

        arguments.Y = y.Address;
        arguments.YStride = y.Shape[1];
        Instance instance = arguments.Batch switch
        {
            <= 8 when arguments.Tiles <= 8 * device.MultiprocessorCount => new("decode_store_8x1x4", 8, 1, 4),
            <= 8 => new("decode_store_8x2x4", 8, 2, 4),
            <= 16 => new("decode_store_16x2x4", 16, 2, 4),
            <= 32 => new("decode_store_32x4x2", 32, 4, 2),
            _ => new("decode_store_64x4x2", 64, 4, 2),
        };
        Launch(device, instance, arguments, (arguments.Tiles + instance.Tiles - 1) / instance.Tiles);
    }

    /// <summary>y = SiLU(gate) up with gate = norm(x) W_gate^T and up = norm(x) W_up^T.</summary>
    /// <param name="device">Where everything lives.</param>
    /// <param name="x">The input.</param>
    /// <param name="gate">W_gate.</param>
    /// <param name="up">W_up.</param>
    /// <param name="y">Bfloat16 <c>[batch, outputs or more]</c>.</param>
    public static void SwiGlu(CudaDevice device, in DecodeInput x, Tensor gate, Tensor up, Tensor y)
    {
        Arguments arguments = Arguments.Of(x);
        arguments.Add(gate, 0);
        int tiles = arguments.Tiles;
        arguments.Add(up, 0);
        arguments.Tiles = tiles;
        arguments.Y = y.Address;
        arguments.YStride = y.Shape[1];
        Instance instance = arguments.Batch switch
        {
            <= 8 => new("decode_swiglu_8x2x4", 8, 2, 4),
            <= 16 => new("decode_swiglu_16x2x4", 16, 2, 4),
            <= 32 => new("decode_swiglu_32x4x2", 32, 4, 2),
            _ => new("decode_swiglu_64x4x2", 64, 4, 2),
        };
        int pairs = instance.Tiles / 2;
        Launch(device, instance, arguments, (tiles + pairs - 1) / pairs);
    }

    /// <summary>Adds x W^T to the residual stream, and leaves there what the next norm needs.</summary>
    /// <param name="device">Where everything lives.</param>
    /// <param name="x">The input.</param>
    /// <param name="weight">W.</param>
    /// <param name="stream">The residual stream.</param>
    /// <param name="nextNorm">Weight of the norm that reads the stream next, float32 <c>[outputs]</c>.</param>
    public static void AddToStream(CudaDevice device, in DecodeInput x, Tensor weight, DecodeStream stream, Tensor nextNorm)
    {
        Arguments arguments = Arguments.Of(x);
        arguments.Add(weight, 0);
        arguments.YStride = stream.Scaled.Shape[1];
        arguments.Residual = stream.Residual.Address;
        arguments.NextNorm = nextNorm.Address;
        arguments.NextX = stream.Scaled.Address;
        arguments.NextSquares = stream.Squares.Address;
        Instance instance = arguments.Batch switch
        {
            <= 8 when arguments.Depth > 4 * UnitDepth * Warps => new("decode_residual_8x1x12", 8, 1, 12),
            <= 8 => new("decode_residual_8x1x4", 8, 1, 4),
            <= 16 => new("decode_residual_16x1x4", 16, 1, 4),
            <= 32 => new("decode_residual_32x1x4", 32, 1, 4),
            _ => new("decode_residual_64x1x4", 64, 1, 4),
        };
        Launch(device, instance, arguments, arguments.Tiles);
    }

    private static void Launch(CudaDevice device, Instance instance, in Arguments arguments, int blocks)
    {
        int sharedBytes = (instance.Units * instance.Tiles * Threads * PieceBytes) + (Warps * instance.Sequences * TileRows * instance.Tiles * sizeof(float));
        var geometry = new LaunchGeometry(blocks, (arguments.Batch + instance.Sequences - 1) / instance.Sequences, 1, Threads, 1, 1, sharedBytes) { BeginsEarly = true };
        CudaLaunch.Run(device, Source, instance.Kernel, geometry, arguments);
    }

    /// <summary>A kernel: sequences and tiles of weight rows per block, units of weights that it keeps under way.</summary>
    private readonly record struct Instance(string Kernel, int Sequences, int Tiles, int Units);

    [StructLayout(LayoutKind.Sequential)]
    private struct Part
    {
        public nint Weight;
        public int Rows, FirstTile, Column, Unused;
    }

    [InlineArray(MaxParts)]
    private struct Parts
    {
        private Part first;
    }

    /// <summary><c>ProductArgs</c> of the kernels.</summary>
    [StructLayout(LayoutKind.Sequential)]
    private struct Arguments
    {
        public Parts Parts;
        public nint X;
        public long XStride;
        public nint Squares;
        public nint Y;
        public long YStride;
        public nint Residual, NextNorm, NextX, NextSquares;
        public int Batch, Depth, PartCount, Tiles, SquareCount;
        public float NormShare, Epsilon;

        public static Arguments Of(in DecodeInput x) => new()
        {
            X = x.X.Address,
            XStride = x.X.Shape[1],
            Squares = x.Squares?.Address ?? 0,
            SquareCount = x.Squares?.Shape[1] ?? 0,
            Batch = x.X.Shape[0],
            Depth = x.Width,
            NormShare = 1f / x.Width,
            Epsilon = x.Epsilon,
        };

        public void Add(Tensor weight, int column)
        {
            if (weight.DType != DType.BFloat16 || weight.Shape[1] != Depth || Depth % DepthMultiple != 0)
            {
                throw new ArgumentException($"A token's product takes weights in bfloat16 with {Depth} inputs, a multiple of {DepthMultiple}, but was given {weight}.", nameof(weight));
            }

            Parts[PartCount++] = new Part { Weight = weight.Address, Rows = weight.Shape[0], FirstTile = Tiles, Column = column };
            Tiles += (weight.Shape[0] + TileRows - 1) / TileRows;
        }
    }
}
