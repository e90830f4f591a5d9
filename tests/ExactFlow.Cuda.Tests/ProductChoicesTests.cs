using ExactFlow.Tensors;
using ExactFlow.Testing;

namespace ExactFlow.Cuda.Tests;

/// <summary>What is kept of measured products, and that equal runs have equal bits because of it.</summary>
public sealed class ProductChoicesTests
{
    private const int Size = 2048;

    private static readonly CublasLtKey Large = Key(Size);

    [Fact]
    public void A_choice_is_found_again_for_the_same_product_and_library_alone()
    {
        using var folder = new TemporaryFolder();
        byte[] choice = [1, 2, 3];
        Assert.True(new ProductChoices(folder.Path, "one").TryKeep(Large, ref choice));

        Assert.Equal([1, 2, 3], new ProductChoices(folder.Path, "one").Find(Large));
        Assert.Null(new ProductChoices(folder.Path, "another").Find(Large));
        Assert.Null(new ProductChoices(folder.Path, "one").Find(Large with { Rows = 2047 }));
        Assert.Null(new ProductChoices(folder.Path, "one").Find(Large with { A = Large.A with { Alignment = 16 } }));
    }

    [Fact]
    public void The_first_choice_stays()
    {
        using var folder = new TemporaryFolder();
        var choices = new ProductChoices(folder.Path, "");
        byte[] first = [1], second = [2];
        Assert.True(choices.TryKeep(Large, ref first));
        Assert.True(choices.TryKeep(Large, ref second));
        Assert.Equal([1], second);
        Assert.Equal([1], choices.Find(Large));
    }

    [Fact]
    public void A_damaged_choice_is_none()
    {
        using var folder = new TemporaryFolder();
        var choices = new ProductChoices(folder.Path, "");
        byte[] choice = [1, 2, 3], again = [4];
        Assert.True(choices.TryKeep(Large, ref choice));
        string file = Assert.Single(Directory.GetFiles(folder.Path));
        byte[] bytes = File.ReadAllBytes(file);
        bytes[^1] ^= 1;
        File.WriteAllBytes(file, bytes);

        Assert.Null(choices.Find(Large));
        Assert.True(choices.TryKeep(Large, ref again));
        Assert.Equal([4], choices.Find(Large));
        choices.Forget(Large);
        Assert.Null(choices.Find(Large));
    }

    [Fact]
    public void What_cannot_be_kept_says_so()
    {
        using var folder = new TemporaryFolder();
        string file = Path.Combine(folder.Path, "file");
        File.WriteAllText(file, "");
        byte[] choice = [1];
        Assert.False(new ProductChoices(Path.Combine(file, "below"), "").TryKeep(Large, ref choice));
    }

    [Fact]
    public void Small_products_are_left_to_the_library()
    {
        Assert.True(ProductChoices.Takes(Large));
        Assert.False(ProductChoices.Takes(Key(Size / 2)));
    }

    [Fact]
    public void Devices_choose_alike_and_a_measured_product_that_adds_is_right()
    {
        CudaTestDevices.OpenReal().Dispose();
        using var folder = new TemporaryFolder();
        ushort[] a = Numbers(1), b = Numbers(2), c = Numbers(3);
        ushort[] first = Product(folder.Path, a, b, c);
        Assert.NotEmpty(Directory.GetFiles(Path.Combine(folder.Path, "products")));
        Assert.Equal(first, Product(folder.Path, a, b, c));

        double[] expected = [.. Enumerable.Range(0, Size).Select(column => BFloat16Bits.ToSingle(c[column]) + (3 * Enumerable.Range(0, Size).Sum(i => (double)BFloat16Bits.ToSingle(a[i]) * BFloat16Bits.ToSingle(b[(i * Size) + column]))))];
        Assert.InRange(RelativeError.L2([.. first.Take(Size).Select(BFloat16Bits.ToSingle)], expected), 0, 1.0 / 256);
    }

    private static CublasLtKey Key(int size)
    {
        var side = new CublasLtKey.Side(size, false, 0, 256);
        return new CublasLtKey(size, size, size, 1, DType.BFloat16, side, side, DType.BFloat16, side, false, DType.Float32, 0);
    }

    /// <summary>C + 3 A B on a device of its own.</summary>
    private static ushort[] Product(string folder, ushort[] a, ushort[] b, ushort[] c)
    {
        using var device = new CudaDevice(new LibcudaDriver("cuda:0"), 0, cache: new KernelCache(folder));
        using Tensor left = On(a), right = On(b), result = On(c);
        device.Multiply(new MatrixProduct
        {
            Rows = Size, Columns = Size, Depth = Size, A = Operand(left), B = Operand(right), C = Operand(result), Accumulate = true, Alpha = 3,
        });
        return result.ToHost<ushort>();

        Tensor On(ushort[] numbers)
        {
            Tensor tensor = device.Persistent([Size, Size], DType.BFloat16);
            tensor.CopyFrom<ushort>(numbers);
            return tensor;
        }

        static MatrixOperand Operand(Tensor tensor) => new(tensor.Address, tensor.DType, Size);
    }

    private static ushort[] Numbers(int seed)
    {
        var random = new Random(seed);
        return [.. Enumerable.Range(0, Size * Size).Select(_ => BFloat16Bits.FromSingle((random.NextSingle() * 2) - 1))];
    }
}
