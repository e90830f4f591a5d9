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
        (int rows, int tiles, string kernel) = arguments.Batch switch
        {
            <= 8 when arguments.Tiles <= 8 * device.MultiprocessorCount => (8, 1, "decode_store_8x1"),
            <= 8 => (8, 2, "decode_store_8x2"),
            <= 16 => (16, 2, "decode_store_16x2"),
            <= 32 => (32, 4, "decode_store_32x4"),
            _ => (64, 4, "decode_store_64x4"),
        };
        Launch(device, kernel, arguments, (arguments.Tiles + tiles - 1) / tiles, rows, tiles);
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
        (int rows, int pairs, string kernel) = arguments.Batch switch
        {
            <= 8 => (8, 1, "decode_swiglu_8x2"),
            <= 16 => (16, 1, "decode_swiglu_16x2"),
            <= 32 => (32, 2, "decode_swiglu_32x4"),
            _ => (64, 2, "decode_swiglu_64x4"),
        };
        Launch(device, kernel, arguments, (tiles + pairs - 1) / pairs, rows, 2 * pairs);
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
        (int rows, string kernel) = arguments.Batch switch
        {
            <= 8 => (8, "decode_residual_8x1"),
            <= 16 => (16, "decode_residual_16x1"),
            <= 32 => (32, "decode_residual_32x1"),
            _ => (64, "decode_residual_64x1"),
        };
        Launch(device, kernel, arguments, arguments.Tiles, rows, 1);
    }

    /// <summary>Launches the instance for so many sequences and tiles of weight rows per block.</summary>
    private static void Launch(CudaDevice device, string kernel, in Arguments arguments, int blocks, int rows, int tiles)
    {
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
            if (weight.DType != DType.BFloat16 || weight.Shape[1] != Depth || Depth % DepthMultiple != 0)
            {
                throw new ArgumentException($"A token's product takes weights in bfloat16 with {Depth} inputs, a multiple of {DepthMultiple}, but was given {weight}.", nameof(weight));
            }

            Parts[PartCount++] = new Part { Weight = weight.Address, Rows = weight.Shape[0], FirstTile = Tiles, Column = column };
            Tiles += (weight.Shape[0] + TileRows - 1) / TileRows;
        }
    }
}
