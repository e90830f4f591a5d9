using System.Reflection;
using System.Runtime.InteropServices;
using ExactFlow.Tensors;
using ExactFlow.Testing;
using ExactFlow.Testing.Emulation;

namespace ExactFlow.Cuda.Tests;

/// <summary>The emulated GPU does what a GPU does, and notices what a GPU does not; the first half runs on a real one too.</summary>
public sealed unsafe class EmulationTests
{
    private static readonly Assembly Here = typeof(EmulationTests).Assembly;

    public static TheoryData<string> Devices => new(CudaTestDevices.Names);

    public static TheoryData<string, bool> Products
    {
        get
        {
            var data = new TheoryData<string, bool>();
            foreach (string device in CudaTestDevices.Names)
            {
                data.Add(device, false);
                data.Add(device, true);
            }

            return data;
        }
    }

    [Theory]
    [MemberData(nameof(Devices))]
    public void Sums_of_blocks_meet_at_barriers_and_shuffles(string name)
    {
        using CudaDevice device = CudaTestDevices.Open(name);
        float[] values = Ramp(7 * 256);

        float[] sums = Run(device, "block_sums", new LaunchGeometry(7, 1, 1, 256, 1, 1, 0), values, 7);

        Assert.Equal(Enumerable.Range(0, 7).Select(block => values.AsSpan(block * 256, 256).ToArray().Sum()), sums);
    }

    [Theory]
    [MemberData(nameof(Devices))]
    public void Dynamic_shared_memory_carries_values_between_threads(string name)
    {
        using CudaDevice device = CudaTestDevices.Open(name);
        float[] values = Ramp(3 * 1024);

        float[] reversed = Run(device, "reverse", new LaunchGeometry(3, 1, 1, 1024, 1, 1, 4096), values, values.Length);

        Assert.Equal(values.Chunk(1024).SelectMany(block => block.Reverse()), reversed);
    }

    [Theory]
    [MemberData(nameof(Devices))]
    public void Lanes_exchange_values(string name)
    {
        using CudaDevice device = CudaTestDevices.Open(name);
        float[] x = Ramp(32);

        float[][] rows = [.. Run(device, "exchanges", new LaunchGeometry(1, 1, 1, 32, 1, 1, 0), x, 8 * 32).Chunk(32)];

        int[] lanes = [.. Enumerable.Range(0, 32)];
        Assert.Equal(lanes.Select(lane => x[lane ^ 5]), rows[0]);
        Assert.Equal(lanes.Select(_ => x[7]), rows[1]);
        Assert.Equal(lanes.Select(lane => x[lane + 3 < 32 ? lane + 3 : lane]), rows[2]);
        Assert.Equal(lanes.Select(lane => x[lane >= 3 ? lane - 3 : lane]), rows[3]);
        Assert.All(rows[4], votes => Assert.Equal(x.Count(value => value > 0), votes));
        Assert.Equal(lanes.Select(lane => x[(lane & ~7) | ((lane + 1) & 7)]), rows[5]);
        Assert.All(rows[6], any => Assert.Equal(1, any));
        Assert.All(rows[7], all => Assert.Equal(0, all));
    }

    [Theory]
    [MemberData(nameof(Products))]
    public void Tensor_cores_multiply_fragments(string name, bool transposed)
    {
        using CudaDevice device = CudaTestDevices.Open(name);
        double[] a = BFloat16Ramp(1), b = BFloat16Ramp(2);
        using Tensor left = Upload(device, a), right = Upload(device, b), product = device.Persistent([256]);
        var arguments = new ProductArguments { A = left.Address, B = right.Address, Y = product.Address };
        nint address = (nint)(&arguments);

        device.Launch(device.Kernels.Function(Here, "probes.cu", transposed ? "product_transposed" : "product_plain"), new LaunchGeometry(1, 1, 1, 32, 1, 1, 0), [address]);

        AssertClose(Multiply(a, b, transposed), product.ToHost<float>(), 1e-6);
    }

    [Theory]
    [MemberData(nameof(Devices))]
    public void Tensor_cores_multiply_in_tf32(string name)
    {
        using CudaDevice device = CudaTestDevices.Open(name);
        float[] x = Ramp(256);

        float[] product = Run(device, "product_tf32", new LaunchGeometry(1, 1, 1, 32, 1, 1, 0), x, 256);

        AssertClose(Multiply([.. x.Select(value => (double)value)], [.. x.Select(value => (double)value)], transposed: false), product, 1e-3);
    }

    [Theory]
    [MemberData(nameof(Devices))]
    public void A_captured_launch_runs_at_each_replay_on_the_arguments_of_the_capture(string name)
    {
        using CudaDevice device = CudaTestDevices.Open(name);
        using Tensor x = device.Persistent([512]), y = device.Persistent([2]);
        CudaFunction kernel = device.Kernels.Function(Here, "probes.cu", "block_sums");
        using CudaGraph graph = device.Capture(() =>
        {
            var arguments = new ProbeArguments { X = x.Address, Y = y.Address, Count = 512 };
            nint address = (nint)(&arguments);
            device.Launch(kernel, new LaunchGeometry(2, 1, 1, 256, 1, 1, 0), [address]);
            arguments = default;
        });

        Assert.Equal([0, 0], y.ToHost<float>());
        foreach (float value in (float[])[1, 2.5f])
        {
            x.CopyFrom<float>([.. Enumerable.Repeat(value, 512)]);
            graph.Launch();
            Assert.Equal([256 * value, 256 * value], y.ToHost<float>());
        }
    }

    [Fact]
    public void Shared_memory_is_nan_before_every_block()
    {
        using CudaDevice device = CudaTestDevices.OpenEmulated();

        float[] found = Run(device, "unwritten", new LaunchGeometry(5, 1, 1, 32, 1, 1, 128), Ramp(1), 5 * 64);

        Assert.All(found, value => Assert.True(float.IsNaN(value), $"{value}"));
    }

    [Theory]
    [InlineData("some_never_arrive", 64, 0, "deadlock")]
    [InlineData("two_barriers", 64, 0, "thread 32 waits at the barrier")]
    [InlineData("part_of_a_warp", 32, 0, "deadlock: 20 lanes of warp 0 wait at a shuffle")]
    [InlineData("past_the_end", 32, 0, "writes 4 bytes at byte 256 of a block of 256 bytes")]
    [InlineData("before_the_start", 32, 0, "writes 4 bytes, 4 bytes before a block")]
    [InlineData("past_dynamic_shared", 32, 256, "writes 4 bytes at byte 256 of 256 bytes of dynamic shared memory")]
    [InlineData("past_static_shared", 32, 0, "index 64 is outside the array")]
    [InlineData("far_outside", 32, 0, "no memory of the device")]
    [InlineData("misaligned", 32, 0, "misaligned")]
    [InlineData("no_barrier_before_read", 64, 0, "race: probes.cu line")]
    [InlineData("no_barrier_before_write", 64, 256, "race: probes.cu line")]
    [InlineData("no_syncwarp", 32, 0, "race: probes.cu line")]
    [InlineData("blocks_write_the_same", 32, 0, "that a thread of another block writes", 2)]
    [InlineData("a_block_reads_anothers", 32, 0, "that a thread of another block writes", 2)]
    [InlineData("no_wait_before_read", 32, 0, "while a cp.async to it is under way")]
    [InlineData("block_sums", 512, 0, "its launch bounds allow 256 threads")]
    [InlineData("reverse", 48, 0, "whole warps")]
    public void A_faulty_kernel_is_named_and_the_device_stays_usable(string kernel, int threads, int sharedBytes, string expected, int blocks = 1)
    {
        using CudaDevice device = CudaTestDevices.OpenEmulated();

        var exception = Assert.Throws<CudaException>(() => Run(device, kernel, new LaunchGeometry(blocks, 1, 1, threads, 1, 1, sharedBytes), Ramp(128), 64));

        Assert.Equal("cuLaunchKernel", exception.Call);
        Assert.Contains(kernel, exception.Message, StringComparison.Ordinal);
        Assert.Contains(expected, exception.Message, StringComparison.Ordinal);
        Assert.Equal([Ramp(256).Sum()], Run(device, "block_sums", new LaunchGeometry(1, 1, 1, 256, 1, 1, 0), Ramp(256), 1));
        Assert.Equal(0, device.Pool.RentedBlocks);
    }

    [Theory]
    [MemberData(nameof(Devices))]
    public void Lanes_meet_at_syncwarp(string name)
    {
        using CudaDevice device = CudaTestDevices.Open(name);
        Assert.Equal(Enumerable.Repeat(2f, 32), Run(device, "with_syncwarp", new LaunchGeometry(1, 1, 1, 32, 1, 1, 0), Ramp(1), 32));
    }

    [Theory]
    [MemberData(nameof(Devices))]
    public void The_last_block_may_add_up_what_all_wrote(string name)
    {
        using CudaDevice device = CudaTestDevices.Open(name);
        Assert.Equal([28, 1, 2, 3, 4, 5, 6, 7], Run(device, "last_block_adds_up", new LaunchGeometry(7, 1, 1, 32, 1, 1, 0), [0], 8));
    }

    [Theory]
    [MemberData(nameof(Devices))]
    public void Asynchronous_copies_arrive_group_by_group(string name)
    {
        using CudaDevice device = CudaTestDevices.Open(name);
        float[] x = Ramp(5 * 128);
        Assert.Equal(x.Chunk(128).SelectMany(piece => piece.Reverse()), Run(device, "pipeline", new LaunchGeometry(1, 1, 1, 32, 1, 1, 0), x, x.Length));
    }

    [Fact]
    public void What_would_be_gone_at_a_replay_cannot_be_captured()
    {
        using CudaDevice device = CudaTestDevices.OpenEmulated();
        using Tensor x = device.Persistent([8]);
        Assert.Contains("allocating", Refused(device, () => device.Persistent([1 << 20])), StringComparison.Ordinal);
        Assert.Contains("from host memory", Refused(device, () => x.CopyFrom<float>(new float[8])), StringComparison.Ordinal);
        Assert.Contains("to host memory", Refused(device, () => x.ToHost<float>()), StringComparison.Ordinal);
        Assert.Contains("waiting", Refused(device, device.Synchronize), StringComparison.Ordinal);
    }

    [Fact]
    public void A_source_that_does_not_compile_shows_the_compilers_log()
    {
        Assert.SkipUnless(EmulatedKernelCompiler.IsAvailable, "No g++ on the PATH.");
        var exception = Assert.Throws<CudaException>(() => new EmulatedKernelCompiler().Compile("broken.cu", "extern \"C\" __global__ void broken(int* x) { *x = nothing; }", []));
        Assert.Equal(CudaResult.InvalidSource, exception.Result);
        Assert.Contains("broken.cu:1", exception.Message, StringComparison.Ordinal);
        Assert.Contains("nothing", exception.Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(DType.Float32, DType.Float32, false, false)]
    [InlineData(DType.Float32, DType.Float32, true, false)]
    [InlineData(DType.BFloat16, DType.BFloat16, false, true)]
    [InlineData(DType.BFloat16, DType.Float32, true, true)]
    public void Matrix_products_follow_their_definition(DType type, DType resultType, bool transposeA, bool transposeB)
    {
        const int Rows = 5, Columns = 7, Depth = 11, Batches = 3, Padding = 2;
        var driver = new EmulatedCudaDriver();
        using CudaDevice device = CudaTestDevices.OpenEmulated(driver);
        (int lines, int length) ofA = transposeA ? (Depth, Rows) : (Rows, Depth), ofB = transposeB ? (Columns, Depth) : (Depth, Columns);
        double[] a = Rounded(Batches * ofA.lines * (ofA.length + Padding)), b = Rounded(Batches * ofB.lines * (ofB.length + Padding));
        double[] c = Rounded(Batches * Rows * (Columns + Padding)), bias = Rounded(Columns);
        using Tensor left = Upload(device, a, type), right = Upload(device, b, type), result = Upload(device, c, resultType), row = Upload(device, bias, DType.Float32);
        MatrixOperand A(int batch) => new(left.Address, type, ofA.length + Padding, transposeA, batch);
        var product = new MatrixProduct
        {
            Rows = Rows,
            Columns = Columns,
            Depth = Depth,
            A = A(ofA.lines * (ofA.length + Padding)),
            B = new MatrixOperand(right.Address, type, ofB.length + Padding, transposeB, ofB.lines * (ofB.length + Padding)),
            C = new MatrixOperand(result.Address, resultType, Columns + Padding, false, Rows * (Columns + Padding)),
            Alpha = 0.5f,
            Accumulate = true,
            Bias = row.Address,
            Batches = Batches,
        };
        using CudaGraph graph = device.Capture(() => device.Multiply(product));
        Assert.Equal(c.Select(value => (float)value), Download(result));
        graph.Launch();

        double[] expected = [.. c];
        for (int i = 0; i < Batches * Rows * Columns; i++)
        {
            int batch = i / (Rows * Columns), r = i / Columns % Rows, column = i % Columns;
            double sum = 0;
            for (int k = 0; k < Depth; k++)
            {
                sum += a[(batch * ofA.lines * (ofA.length + Padding)) + (transposeA ? (k * (ofA.length + Padding)) + r : (r * (ofA.length + Padding)) + k)]
                    * b[(batch * ofB.lines * (ofB.length + Padding)) + (transposeB ? (column * (ofB.length + Padding)) + k : (k * (ofB.length + Padding)) + column)];
            }

            expected[(((batch * Rows) + r) * (Columns + Padding)) + column] += (0.5 * sum) + bias[column];
        }

        AssertClose(expected, Download(result), resultType == DType.BFloat16 ? 5e-3 : 1e-6);
        Assert.Contains("outside", Assert.Throws<CudaException>(() => device.Multiply(product with { A = A(10_000) })).Message, StringComparison.Ordinal);
    }

    private static float[] Run(CudaDevice device, string kernel, LaunchGeometry geometry, float[] values, int outputs)
    {
        using Tensor x = device.Persistent([values.Length]), y = device.Persistent([outputs]);
        x.CopyFrom<float>(values);
        var arguments = new ProbeArguments { X = x.Address, Y = y.Address, Count = y.Shape.Count };
        nint address = (nint)(&arguments);
        device.Launch(device.Kernels.Function(Here, "probes.cu", kernel), geometry, [address]);
        return y.ToHost<float>();
    }

    private static string Refused(CudaDevice device, Action work)
    {
        // The device refuses what a driver would capture and a replay would then do to memory that is gone; the driver refuses the rest.
        Exception exception = Assert.ThrowsAny<Exception>(() => device.Capture(work));
        Assert.True(exception is InvalidOperationException or CudaException { Result: CudaResult.StreamCaptureUnsupported }, exception.ToString());
        return exception.Message;
    }

    /// <summary>Whole numbers, of both signs, whose sums are exact.</summary>
    private static float[] Ramp(int count) => [.. Enumerable.Range(0, count).Select(i => (float)((i * 37 % 101) - 40))];

    private static double[] Rounded(int count) => [.. Enumerable.Range(0, count).Select(i => BFloat16Bits.Round(Math.Sin(i * 1.7)))];

    private static double[] BFloat16Ramp(int seed) => [.. Enumerable.Range(0, 256).Select(i => BFloat16Bits.Round(Math.Sin((i * 1.3) + seed)))];

    private static Tensor Upload(CudaDevice device, double[] values, DType type = DType.BFloat16)
    {
        Tensor tensor = device.Persistent([values.Length], type);
        if (type == DType.Float32)
        {
            tensor.CopyFrom<float>(Array.ConvertAll(values, value => (float)value));
        }
        else
        {
            tensor.CopyFrom<ushort>(Array.ConvertAll(values, value => BFloat16Bits.FromSingle((float)value)));
        }

        return tensor;
    }

    private static float[] Download(Tensor tensor)
        => tensor.DType == DType.Float32 ? tensor.ToHost<float>() : Array.ConvertAll(tensor.ToHost<ushort>(), BFloat16Bits.ToSingle);

    /// <summary>16 x 16 times 16 x 16 in float64.</summary>
    private static double[] Multiply(double[] a, double[] b, bool transposed)
    {
        var product = new double[256];
        for (int i = 0; i < 256; i++)
        {
            for (int k = 0; k < 16; k++)
            {
                product[i] += (transposed ? a[(k * 16) + (i / 16)] : a[(i / 16 * 16) + k]) * (transposed ? b[(i % 16 * 16) + k] : b[(k * 16) + (i % 16)]);
            }
        }

        return product;
    }

    private static void AssertClose(double[] expected, float[] actual, double tolerance)
    {
        double error = RelativeError.L2(actual, expected);
        Assert.True(error <= tolerance, $"Off by {error:G3}, more than {tolerance:G3}.");
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct ProbeArguments
    {
        public nint X, Y;
        public long Count;
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct ProductArguments
    {
        public nint A, B, Y;
    }
}
