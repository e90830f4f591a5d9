using ExactFlow.Tensors;
using ExactFlow.Tensors.Randomness;
using ExactFlow.Testing;

namespace ExactFlow.Cuda.Tests;

/// <summary>
/// Products of all kinds against loops in float64 on the same numbers: those of the device (cuBLASLt on a GPU, loops on the emulated one) and those of
/// <see cref="PlainProducts"/>. Float32 results: sums of n terms of about 1 in float32 are off by about sqrt(n) 2^-24; bfloat16 results round by at most 2^-8.
/// </summary>
public sealed class MatrixProductTests
{
    private const double Single = 2e-6, Half = 1.0 / 256;

    private enum Bias
    {
        None,
        Single,
        OfResult,
    }

    private sealed record Kind(int Rows, int Columns, int Depth)
    {
        public DType Operands { get; init; }

        public DType Result { get; init; }

        public bool TransposeA { get; init; }

        public bool TransposeB { get; init; }

        public bool Accumulate { get; init; }

        public Bias Bias { get; init; }

        public int Batches { get; init; } = 1;

        public int Padding { get; init; }

        public float Alpha { get; init; } = 1;
    }

    public static TheoryData<string> Devices => new(CudaTestDevices.Names);

    [Theory]
    [MemberData(nameof(Devices))]
    public void The_device_multiplies(string deviceName)
    {
        using CudaDevice device = CudaTestDevices.Open(deviceName);
        Assert.Empty(Kinds().Select(kind => Problem(device, kind, product => device.Multiply(product))).OfType<string>());
    }

    [Theory]
    [MemberData(nameof(Devices))]
    public void The_plain_kernel_multiplies(string deviceName)
    {
        using CudaDevice device = CudaTestDevices.Open(deviceName);
        using var plain = new PlainProducts(device);
        Assert.Empty(Kinds().Select(kind => Problem(device, kind, product => plain.Multiply(product, 0))).OfType<string>());
    }

    [Theory]
    [MemberData(nameof(Devices))]
    public void A_product_cut_into_aligned_parts_is_the_product(string deviceName)
    {
        using CudaDevice device = CudaTestDevices.Open(deviceName);
        foreach (Kind kind in KindsToCut())
        {
            int parts = 0;
            Assert.Null(Problem(device, kind, Multiply));
            Assert.True(parts > 1, $"{kind} was not cut.");

            void Multiply(MatrixProduct product)
            {
                if (AlignedParts.TrySplit(product, out MatrixProduct aligned, out MatrixProduct rest))
                {
                    Multiply(aligned);
                    Multiply(rest);
                    return;
                }

                parts++;
                device.Multiply(product);
            }
        }
    }

    [Theory]
    [MemberData(nameof(Devices))]
    public void A_captured_product_is_the_product(string deviceName)
    {
        using CudaDevice device = CudaTestDevices.Open(deviceName);
        var kind = new Kind(65, 33, 100) { Operands = DType.BFloat16, Result = DType.BFloat16, TransposeB = true };
        CudaGraph? graph = null;
        Assert.Null(Problem(device, kind, product =>
        {
            device.Multiply(product);
            graph = device.Capture(() => device.Multiply(product));
            graph.Launch();
        }));
        graph!.Dispose();
    }

    [Fact]
    public void The_first_product_cannot_be_captured()
    {
        using var folder = new TemporaryFolder();
        using var device = new CudaDevice(new RecordingCudaDriver(), cache: new KernelCache(folder.Path));
        var exception = Assert.Throws<InvalidOperationException>(() => device.Capture(() => device.Multiply(new MatrixProduct { Rows = 1, Columns = 1, Depth = 1, A = default, B = default, C = default })));
        Assert.Contains("once before capturing", exception.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_library_that_is_not_there_is_one_sentence()
    {
        using var folder = new TemporaryFolder();
        Assert.SkipWhen(CudaLibrary.CublasLt.TryLoad(out string where), $"cuBLASLt is installed here ({where}).");
        using var device = new CudaDevice(new RecordingCudaDriver(), cache: new KernelCache(folder.Path));
        var exception = Assert.Throws<InvalidInputException>(() => device.Multiply(new MatrixProduct { Rows = 1, Columns = 1, Depth = 1, A = default, B = default, C = default }));
        Assert.Contains("cuBLASLt", exception.Message, StringComparison.Ordinal);
        Assert.Contains("EXACTFLOW_CUBLASLT_LIBRARY", exception.Message, StringComparison.Ordinal);
    }

    private static List<Kind> Kinds()
    {
        var kinds = new List<Kind>();
        (int Rows, int Columns, int Depth)[] shapes = [(1, 1, 1), (1, 65, 100), (3, 5, 7), (63, 1, 65), (64, 128, 32), (65, 33, 129), (100, 100, 1)];
        (DType Operands, DType Result)[] types = [(DType.Float32, DType.Float32), (DType.BFloat16, DType.BFloat16), (DType.BFloat16, DType.Float32)];
        foreach ((DType operands, DType result) in types)
        {
            foreach ((int rows, int columns, int depth) in shapes)
            {
                foreach ((bool a, bool b) in ((bool, bool)[])[(false, false), (false, true), (true, false), (true, true)])
                {
                    kinds.Add(new Kind(rows, columns, depth) { Operands = operands, Result = result, TransposeA = a, TransposeB = b });
                }

                kinds.Add(new Kind(rows, columns, depth) { Operands = operands, Result = result, TransposeB = true, Bias = Bias.OfResult });
                kinds.Add(new Kind(rows, columns, depth) { Operands = operands, Result = result, TransposeA = true, Accumulate = true });
            }

            kinds.Add(new Kind(17, 24, 40) { Operands = operands, Result = result, Batches = 3, TransposeB = true, Padding = 3 });
            kinds.Add(new Kind(17, 24, 40) { Operands = operands, Result = result, Batches = 3, Accumulate = true, Alpha = -0.5f });
            kinds.Add(new Kind(5, 8, 0) { Operands = operands, Result = result });
            kinds.Add(new Kind(5, 8, 0) { Operands = operands, Result = result, Accumulate = true });
            kinds.Add(new Kind(5, 8, 0) { Operands = operands, Result = result, Bias = Bias.Single });
            kinds.Add(new Kind(0, 8, 3) { Operands = operands, Result = result });
            kinds.Add(new Kind(8, 0, 3) { Operands = operands, Result = result });
        }

        return kinds;
    }

    /// <summary>Products with an extent that is long and odd, of matrices whose rows begin on 16 bytes: every operand's rows are 5 longer than needed.</summary>
    private static IEnumerable<Kind> KindsToCut()
    {
        foreach (DType result in (DType[])[DType.BFloat16, DType.Float32])
        {
            foreach (bool accumulate in (bool[])[false, true])
            {
                Kind kind = new(3, 1027, 11) { Operands = DType.BFloat16, Result = result, Accumulate = accumulate, Padding = 5 };
                yield return kind;
                yield return kind with { TransposeB = true, Bias = Bias.OfResult, Depth = 11, Columns = 1027 };
                yield return kind with { Rows = 1027, Columns = 11, Depth = 3, TransposeA = true };
                yield return kind with { Rows = 3, Columns = 11, Depth = 1027 };
                yield return kind with { Rows = 11, Columns = 3, Depth = 1027, TransposeA = true, TransposeB = true };
                yield return kind with { Rows = 1027, Columns = 1035, Depth = 3, TransposeA = true };
            }
        }
    }

    /// <summary>What is wrong with a product, or null.</summary>
    private static string? Problem(CudaDevice device, Kind kind, Action<MatrixProduct> multiply)
    {
        var a = new Stored(device, "a", kind.Operands, kind.Batches, kind.TransposeA ? kind.Depth : kind.Rows, kind.TransposeA ? kind.Rows : kind.Depth, kind.Padding);
        var b = new Stored(device, "b", kind.Operands, kind.Batches, kind.TransposeB ? kind.Columns : kind.Depth, kind.TransposeB ? kind.Depth : kind.Columns, kind.Padding);
        var c = new Stored(device, "c", kind.Result, kind.Batches, kind.Rows, kind.Columns, kind.Padding);
        var bias = new Stored(device, "bias", kind.Bias == Bias.OfResult ? kind.Result : DType.Float32, 1, 1, kind.Columns, 0);
        using (a.Tensor)
        using (b.Tensor)
        using (c.Tensor)
        using (bias.Tensor)
        {
            multiply(new MatrixProduct
            {
                Rows = kind.Rows,
                Columns = kind.Columns,
                Depth = kind.Depth,
                A = a.Operand(kind.TransposeA),
                B = b.Operand(kind.TransposeB),
                C = c.Operand(transposed: false),
                Alpha = kind.Alpha,
                Accumulate = kind.Accumulate,
                Bias = kind.Bias == Bias.None ? 0 : bias.Tensor.Address,
                BiasType = bias.Tensor.DType,
                Batches = kind.Batches,
            });

            double error = RelativeError.L2(Stored.Values(c.Tensor), Expected(kind, a, b, c, bias));
            double tolerance = kind.Result == DType.BFloat16 ? Half : Single;
            return error <= tolerance ? null : $"{kind}: relative L2 error {error:e2} is above {tolerance:e1}.";
        }
    }

    /// <summary>All of C's memory: what lies between its rows must stay as it was.</summary>
    private static double[] Expected(Kind kind, Stored a, Stored b, Stored c, Stored bias)
    {
        double[] expected = Array.ConvertAll(c.Initial, value => (double)value);
        for (int batch = 0; batch < kind.Batches; batch++)
        {
            for (int row = 0; row < kind.Rows; row++)
            {
                for (int column = 0; column < kind.Columns; column++)
                {
                    double sum = 0;
                    for (int k = 0; k < kind.Depth; k++)
                    {
                        sum += (double)a.At(batch, row, k, kind.TransposeA) * b.At(batch, k, column, kind.TransposeB);
                    }

                    long at = c.Index(batch, row, column);
                    expected[at] = (kind.Alpha * sum) + (kind.Accumulate ? expected[at] : 0) + (kind.Bias == Bias.None ? 0 : bias.Initial[column]);
                }
            }
        }

        return expected;
    }

    /// <summary>A matrix on the device, its rows some elements apart, and the values that were put there.</summary>
    private sealed class Stored
    {
        private readonly int rows;
        private readonly int stride;

        public Stored(CudaDevice device, string name, DType type, int batches, int rows, int columns, int padding)
        {
            this.rows = rows;
            stride = columns + padding;
            var random = new Philox(5, Philox.StreamOf(name));
            Initial = new float[batches * rows * stride];
            for (int i = 0; i < Initial.Length; i++)
            {
                float value = (float)random.Normal((ulong)i);
                Initial[i] = type == DType.BFloat16 ? BFloat16Bits.ToSingle(BFloat16Bits.FromSingle(value)) : value;
            }

            Tensor = device.Persistent([Initial.Length], type);
            if (type == DType.BFloat16)
            {
                Tensor.CopyFrom<ushort>(Array.ConvertAll(Initial, BFloat16Bits.FromSingle));
            }
            else
            {
                Tensor.CopyFrom<float>(Initial);
            }
        }

        public float[] Initial { get; }

        public Tensor Tensor { get; }

        public static float[] Values(Tensor tensor)
            => tensor.DType == DType.BFloat16 ? Array.ConvertAll(tensor.ToHost<ushort>(), BFloat16Bits.ToSingle) : tensor.ToHost<float>();

        public MatrixOperand Operand(bool transposed) => new(Tensor.Address, Tensor.DType, stride, transposed, (long)rows * stride);

        public long Index(int batch, int row, int column) => (((long)batch * rows) + row) * stride + column;

        public float At(int batch, int row, int column, bool transposed) => Initial[transposed ? Index(batch, column, row) : Index(batch, row, column)];
    }
}
