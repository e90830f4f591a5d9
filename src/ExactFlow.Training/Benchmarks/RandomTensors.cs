using ExactFlow.Cuda;
using ExactFlow.Tensors;
using ExactFlow.Tensors.Randomness;

namespace ExactFlow.Training.Benchmarks;

/// <summary>Numbers for benchmarks on a GPU. A block of them is drawn and repeated: no operator is faster or slower for it, and drawing hundreds of millions on the host would take longer than the benchmark.</summary>
internal static class RandomTensors
{
    private const int Block = 1 << 20;

    /// <summary>Normal numbers in float32 or bfloat16, a tensor that outlives steps.</summary>
    public static Tensor Normal(CudaDevice device, Shape shape, DType type, float deviation, string name)
    {
        var values = new float[Math.Min(Block, shape.Count)];
        new Philox(1, Philox.StreamOf(name)).FillNormal(values, deviation);
        return Repeat(device, shape, type, values);
    }

    /// <summary>Float32 numbers evenly spread over [low, high), a tensor that outlives steps.</summary>
    public static Tensor Uniform(CudaDevice device, Shape shape, float low, float high, string name)
    {
        var values = new float[Math.Min(Block, shape.Count)];
        new Philox(1, Philox.StreamOf(name)).FillUniform(values, low, high);
        return Repeat(device, shape, DType.Float32, values);
    }

    /// <summary>Token ids as a text has them, few words often and most rarely, a tensor that outlives steps.</summary>
    public static Tensor WordIds(CudaDevice device, Shape shape, int vocabulary, string name)
    {
        var random = new Philox(1, Philox.StreamOf(name));
        Tensor tensor = device.Persistent(shape, DType.Int32);
        tensor.CopyFrom<int>([.. Enumerable.Range(0, (int)shape.Count).Select(i => (int)(Math.Pow(vocabulary, random.Uniform((ulong)i)) - 1))]);
        return tensor;
    }

    private static Tensor Repeat(CudaDevice device, Shape shape, DType type, float[] values)
    {
        ushort[] halves = type == DType.BFloat16 ? Array.ConvertAll(values, value => (ushort)(BitConverter.SingleToUInt32Bits(value) >> 16)) : [];
        Tensor tensor = device.Persistent(shape, type);
        for (long start = 0; start < tensor.Count; start += values.Length)
        {
            int count = (int)Math.Min(values.Length, tensor.Count - start);
            if (type == DType.BFloat16)
            {
                tensor.CopyFrom<ushort>(halves.AsSpan(0, count), start);
            }
            else
            {
                tensor.CopyFrom<float>(values.AsSpan(0, count), start);
            }
        }

        return tensor;
    }
}
