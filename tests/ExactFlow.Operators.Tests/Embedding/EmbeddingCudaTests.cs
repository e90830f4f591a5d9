using ExactFlow.Cuda;
using ExactFlow.Tensors;
using ExactFlow.Tensors.Autograd;
using ExactFlow.Tensors.Randomness;
using ExactFlow.Testing;

namespace ExactFlow.Operators.Tests;

/// <summary>What the case table does not reach on a GPU: ids outside of the table, the float32 gradient of a working copy, vocabularies whose ids have one or three digits of 8 bits, and one that needs no sort.</summary>
public sealed class EmbeddingCudaTests
{
    public static TheoryData<string, int> Devices => new(from device in CudaTestDevices.Names from vocabulary in (int[])[70, 200, 66_000] select (device, vocabulary));

    [Theory]
    [MemberData(nameof(Devices))]
    public void Wrong_ids_are_nan_and_nobodys_and_a_working_copy_gets_its_gradient_in_float32(string deviceName, int vocabulary)
    {
        const int Tokens = 1500, Dim = 8;
        using CudaDevice device = CudaTestDevices.Open(deviceName);
        var random = new Philox(4, Philox.StreamOf("embedding"));
        int[] ids = [.. Enumerable.Range(0, Tokens).Select(i => i % 3 == 0 ? vocabulary - 1 : random.Below((ulong)i, vocabulary))];
        ids[5] = -1;
        ids[700] = vocabulary;
        ids[701] = int.MaxValue;
        ushort[] values = [.. Enumerable.Range(0, vocabulary * Dim).Select(i => BFloat16Bits.FromSingle(i % 251))];
        ushort[] gradient = [.. Enumerable.Range(0, Tokens * Dim).Select(i => BFloat16Bits.FromSingle((i % 15) - 7))];
        using Tensor master = device.Persistent([vocabulary, Dim]).RequireGrad();
        using Tensor table = master.WorkingCopy(DType.BFloat16);
        table.CopyFrom<ushort>(values);

        // Sums of small integers are exact, in any order.
        var expected = new float[vocabulary * Dim];
        for (int pass = 1; pass <= 2; pass++)
        {
            using Step step = device.BeginStep();
            Tensor y = Embedding.Apply(device.From<int>(ids, [Tokens]), table);
            y.Backward(device.From<ushort>(gradient, y.Shape));
            ushort[] rows = y.ToHost<ushort>();
            for (int i = 0; i < rows.Length; i++)
            {
                int id = ids[i / Dim];
                if (id < 0 || id >= vocabulary)
                {
                    Assert.True(float.IsNaN(BFloat16Bits.ToSingle(rows[i])));
                    continue;
                }

                int at = (id * Dim) + (i % Dim);
                Assert.Equal(values[at], rows[i]);
                expected[at] += BFloat16Bits.ToSingle(gradient[i]);
            }

            Assert.Equal(expected, master.Grad!.ToHost<float>());
        }
    }
}
