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

    private const string Source = "decode_product.cu";
    private const int Threads = 256;
    private const int Warps = Threads / 32;
    private const int TileRows = 8;

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
        (int rowTiles, int tiles, string kernel) = arguments.Batch switch
        {
            <= 8 when arguments.Tiles <= 8 * device.MultiprocessorCount => (1, 1, "decode_store_1x1"),
            <= 16 => (1, 2, "decode_store_1x2"),
            <= 32 => (2, 4, "decode_store_2x4"),
            _ => (4, 4, "decode_store_4x4"),
        };
        Launch(device, kernel, arguments, (arguments.Tiles + tiles - 1) / tiles, rowTiles, tiles);
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
        (int rowTiles, int pairs, string kernel) = arguments.Batch switch
        {
            <= 16 => (1, 1, "decode_swiglu_1x2"),
            <= 32 => (2, 2, "decode_swiglu_2x4"),
            _ => (4, 2, "decode_swiglu_4x4"),
        };
        Launch(device, kernel, arguments, (tiles + pairs - 1) / pairs, rowTiles, 2 * pairs);
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
        (int rowTiles, string kernel) = arguments.Batch switch
        {
            <= 16 => (1, "decode_residual_1x1"),
            <= 32 => (2, "decode_residual_2x1"),
            _ => (4, "decode_residual_4x1"),
        };
        Launch(device, kernel, arguments, arguments.Tiles, rowTiles, 1);
    }

    private static void Launch(CudaDevice device, string kernel, in Arguments arguments, int blocks, int rowTiles, int tiles)
    {
        int rows = 16 * rowTiles;
        int sharedBytes = Warps * rows * TileRows * tiles * sizeof(float);
        var geometry = new LaunchGeometry(blocks, (arguments.Batch + rows - 1) / rows, 1, Threads, 1, 1, sharedBytes) { BeginsEarly = true };
        CudaLaunch.Run(device, Source, kernel, geometry, arguments);
    }

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
        public int Batch, Depth, PartCount, Tiles, SquareCount, NormWidth;
        public float Epsilon;

        public static Arguments Of(in DecodeInput x) => new()
        {
            X = x.X.Address,
            XStride = x.X.Shape[1],
            Squares = x.Squares?.Address ?? 0,
            SquareCount = x.Squares?.Shape[1] ?? 0,
            Batch = x.X.Shape[0],
            Depth = x.Width,
            NormWidth = x.Width,
            Epsilon = x.Epsilon,
        };

        public void Add(Tensor weight, int column)
        {
            if (weight.DType != DType.BFloat16 || weight.Shape[1] != Depth)
            {
                throw new ArgumentException($"A token's product takes weights in bfloat16 with {Depth} inputs, but was given {weight}.", nameof(weight));
            }

            Parts[PartCount++] = new Part { Weight = weight.Address, Rows = weight.Shape[0], FirstTile = Tiles, Column = column };
            Tiles += (weight.Shape[0] + TileRows - 1) / TileRows;
        }
    }
}
