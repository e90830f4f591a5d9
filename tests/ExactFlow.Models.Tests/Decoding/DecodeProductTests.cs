using ExactFlow.Cuda;
using ExactFlow.Operators;
using ExactFlow.Tensors;
using ExactFlow.Tensors.Randomness;
using ExactFlow.Testing;

namespace ExactFlow.Models.Tests.Decoding;

/// <summary>Products of a few tokens against sums in float64 of the same rounded numbers.</summary>
public sealed class DecodeProductTests
{
    private const float Epsilon = 1e-5f;

    /// <summary>Float32 sums of a few hundred products of 8-bit mantissas, in any order.</summary>
    private const double Tolerance = 2e-6;

    /// <summary>A result rounded to bfloat16.</summary>
    private const double RoundedTolerance = 4e-3;

    public static TheoryData<string, int, int> Sizes
    {
        get
        {
            var data = new TheoryData<string, int, int>();
            foreach (string device in CudaTestDevices.Names)
            {
                foreach ((int batch, int depth) in ((int, int)[])[(1, 8), (1, 1032), (5, 296), (8, 256), (2, 3208), (13, 64), (32, 40), (33, 136), (66, 24)])
                {
                    data.Add(device, batch, depth);
                }
            }

            return data;
        }
    }

    [Theory]
    [MemberData(nameof(Sizes))]
    public void Several_matrices_at_once(string name, int batch, int depth)
    {
        using CudaDevice device = CudaTestDevices.Open(name);
        using var stream = new DecodeStream(device, batch, depth);
        double[] x = Fill(stream.Scaled, depth, 1);
        double[] squares = Fill(stream.Squares, stream.Squares.Shape[1], 2, Math.Abs);

        // More tiles than a block per multiprocessor of the emulated GPU, a matrix of one row, and one that ends within a tile.
        int[] outputs = [5, 1, 270, 16];
        var weights = new (Tensor Weight, int Column)[outputs.Length];
        double[][] values = new double[outputs.Length][];
        int columns = 2;
        for (int i = 0; i < outputs.Length; i++)
        {
            weights[i] = (device.Persistent([outputs[i], depth], DType.BFloat16), columns);
            values[i] = Fill(weights[i].Weight, depth, 3 + (ulong)i);
            columns += outputs[i] + 1;
        }

        using Tensor y = device.Persistent([batch, columns]);
        DecodeProduct.Store(device, stream.Normalized(Epsilon), weights, y);
        var expected = new double[batch * columns];
        for (int i = 0; i < outputs.Length; i++)
        {
            for (int b = 0; b < batch; b++)
            {
                for (int n = 0; n < outputs[i]; n++)
                {
                    expected[(b * columns) + weights[i].Column + n] = Factor(squares, b, depth) * Dot(x, b, values[i], n, depth);
                }
            }

            weights[i].Weight.Dispose();
        }

        Assert.InRange(RelativeError.L2(y.ToHost<float>(), expected), 0, Tolerance);
    }

    [Theory]
    [MemberData(nameof(Sizes))]
    public void Gate_and_up(string name, int batch, int depth)
    {
        const int Outputs = 43;
        using CudaDevice device = CudaTestDevices.Open(name);
        using var stream = new DecodeStream(device, batch, depth);
        double[] x = Fill(stream.Scaled, depth, 1);
        double[] squares = Fill(stream.Squares, stream.Squares.Shape[1], 2, Math.Abs);
        using Tensor gate = device.Persistent([Outputs, depth], DType.BFloat16);
        using Tensor up = device.Persistent([Outputs, depth], DType.BFloat16);
        double[] gates = Fill(gate, depth, 3);
        double[] ups = Fill(up, depth, 4);
        using Tensor y = DecodeInput.Create(device, batch, Outputs).X;
        DecodeProduct.SwiGlu(device, stream.Normalized(Epsilon), gate, up, y);
        int columns = y.Shape[1];
        var expected = new double[batch * columns];
        for (int b = 0; b < batch; b++)
        {
            for (int n = 0; n < Outputs; n++)
            {
                double g = Factor(squares, b, depth) * Dot(x, b, gates, n, depth);
                expected[(b * columns) + n] = g / (1 + Math.Exp(-g)) * Factor(squares, b, depth) * Dot(x, b, ups, n, depth);
            }
        }

        Assert.InRange(RelativeError.L2(Floats(y), expected), 0, RoundedTolerance);
    }

    [Theory]
    [MemberData(nameof(Sizes))]
    public void Sums_with_the_stream(string name, int batch, int depth)
    {
        const int Width = 52;
        using CudaDevice device = CudaTestDevices.Open(name);
        DecodeInput input = DecodeInput.Create(device, batch, depth);
        using Tensor owned = input.X;
        double[] x = Fill(input.X, depth, 1);
        using var stream = new DecodeStream(device, batch, Width);
        double[] old = Fill(stream.Residual, Width, 2);
        using Tensor weight = device.Persistent([Width, depth], DType.BFloat16);
        double[] weights = Fill(weight, depth, 3);
        using Tensor norm = device.Persistent([Width]);
        double[] factors = Fill(norm, Width, 4);
        DecodeProduct.AddToStream(device, input, weight, stream, norm);
        var sums = new double[batch * Width];
        var scaled = new double[stream.Scaled.Count];
        var squares = new double[stream.Squares.Count];
        for (int b = 0; b < batch; b++)
        {
            for (int n = 0; n < Width; n++)
            {
                double sum = old[(b * Width) + n] + Dot(x, b, weights, n, depth);
                sums[(b * Width) + n] = sum;
                scaled[(b * stream.Scaled.Shape[1]) + n] = sum * factors[n];
                squares[(b * stream.Squares.Shape[1]) + (n / 8)] += sum * sum;
            }
        }

        Assert.InRange(RelativeError.L2(stream.Residual.ToHost<float>(), sums), 0, Tolerance);
        Assert.InRange(RelativeError.L2(Floats(stream.Scaled), scaled), 0, RoundedTolerance);
        Assert.InRange(RelativeError.L2(stream.Squares.ToHost<float>(), squares), 0, Tolerance);
    }

    private static double Factor(double[] squares, int row, int width)
    {
        int count = (width + 7) / 8;
        return 1 / Math.Sqrt((squares.AsSpan(row * count, count).ToArray().Sum() / width) + Epsilon);
    }

    private static double Dot(double[] x, int row, double[] weights, int output, int depth)
    {
        double sum = 0;
        for (int k = 0; k < depth; k++)
        {
            sum += x[(row * depth) + k] * weights[(output * depth) + k];
        }

        return sum;
    }

    /// <summary>Fills the first columns of a matrix with normal numbers, the rest with zeros; returns those columns as they were rounded.</summary>
    private static double[] Fill(Tensor tensor, int columns, ulong stream, Func<double, double>? change = null)
    {
        var random = new Philox(11, stream);
        int rows = tensor.Shape.Rank == 1 ? 1 : tensor.Shape[0];
        int width = (int)(tensor.Count / rows);
        var values = new double[rows * columns];
        var bits = new ushort[tensor.Count];
        for (int i = 0; i < values.Length; i++)
        {
            double value = random.Normal((ulong)i);
            bits[(i / columns * width) + (i % columns)] = BFloat16Bits.FromSingle((float)(change?.Invoke(value) ?? value));
            values[i] = BFloat16Bits.ToSingle(bits[(i / columns * width) + (i % columns)]);
        }

        if (tensor.DType == DType.BFloat16)
        {
            tensor.CopyFrom<ushort>(bits);
        }
        else
        {
            tensor.CopyFrom<float>(Array.ConvertAll(bits, BFloat16Bits.ToSingle));
        }

        return values;
    }

    private static float[] Floats(Tensor tensor) => Array.ConvertAll(tensor.ToHost<ushort>(), BFloat16Bits.ToSingle);
}
