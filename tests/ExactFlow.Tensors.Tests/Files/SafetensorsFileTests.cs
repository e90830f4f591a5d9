using System.Runtime.InteropServices;
using ExactFlow.Tensors.Files;
using ExactFlow.Testing;

namespace ExactFlow.Tensors.Tests.Files;

public class SafetensorsFileTests
{
    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void BFloat16BitsAreReadExactly(bool ofTheOfficialLibrary)
    {
        using SafetensorsFile file = ofTheOfficialLibrary
            ? SafetensorsFile.Open(SharedData.Find("safetensors/bf16_bit_exact.safetensors"))
            : OfBits("""{"bf16_tensor":{"dtype":"BF16","shape":[5],"data_offsets":[0,10]}}""", 0x0000, 0x0001, 0x3F80, 0x7F80, 0x7FC1);
        SafetensorsEntry entry = file["bf16_tensor"];
        Assert.Equal(SafetensorsType.BF16, entry.Type);
        Assert.Equal([5L], entry.Shape);
        Assert.Equal(new ushort[] { 0x0000, 0x0001, 0x3F80, 0x7F80, 0x7FC1 }, file.Read<ushort>("bf16_tensor"));

        uint[] expected = [0x0000_0000, 0x0001_0000, 0x3F80_0000, 0x7F80_0000, 0x7FC1_0000];
        Assert.Equal(expected, file.Read<float>("bf16_tensor").Select(BitConverter.SingleToUInt32Bits));
        double[] doubles = file.Read<double>("bf16_tensor");
        Assert.Equal(Math.ScaleB(1, -133), doubles[1]);
        Assert.Equal([1.0, double.PositiveInfinity], doubles[2..4]);
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void HalfBitsAreReadExactly(bool ofTheOfficialLibrary)
    {
        using SafetensorsFile file = ofTheOfficialLibrary
            ? SafetensorsFile.Open(SharedData.Find("safetensors/f16_bit_exact.safetensors"))
            : OfBits("""{"f16_tensor":{"dtype":"F16","shape":[5],"data_offsets":[0,10]}}""", 0x0000, 0x0001, 0x3C00, 0x7C00, 0x7E01);
        float[] values = file.Read<float>("f16_tensor");
        Assert.Equal([0f, MathF.ScaleB(1, -24), 1f, float.PositiveInfinity], values[..4]);
        Assert.True(float.IsNaN(values[4]));
    }

    [Fact]
    public void IntegersOfRealFilesAreReadAsIntAndLong()
    {
        string path = SharedData.Find("safetensors/voices.safetensors");
        byte[] raw = File.ReadAllBytes(path);
        using SafetensorsFile file = SafetensorsFile.Open(path);
        Assert.Equal(["tokens", "mask"], file.Entries.Select(entry => entry.Name));
        Assert.Equal([1L, 982, 33], file["mask"].Shape);
        long[] tokens = file.Read<long>("tokens");
        int[] narrowed = file.Read<int>("tokens");
        int[] mask = file.Read<int>("mask");
        int dataStart = raw.Length - 291654;
        for (int i = 0; i < tokens.Length; i++)
        {
            Assert.Equal(BitConverter.ToInt64(raw, dataStart + (8 * i)), tokens[i]);
            Assert.Equal(tokens[i], narrowed[i]);
            Assert.Equal(raw[dataStart + 259248 + i], mask[i]);
        }
    }

    [Fact]
    public void EveryIntegerTypeConvertsToEveryNumberType()
    {
        string[] types = ["U8", "I8", "BOOL", "U16", "I16", "U32", "I32", "U64", "I64"];
        foreach (string type in types)
        {
            int size = type == "BOOL" ? 1 : int.Parse(type[1..]) / 8;
            byte[] bytes = SafetensorsBytes.Make($$$$"""{"x":{"dtype":"{{{{type}}}}","shape":[1],"data_offsets":[0,{{{{size}}}}]}}""", size);
            bytes.AsSpan(bytes.Length - size).Clear();
            bytes[^size] = 1;
            using SafetensorsFile file = SafetensorsFile.Parse(bytes);
            Assert.Equal(1f, Assert.Single(file.Read<float>("x")));
            Assert.Equal(1.0, Assert.Single(file.Read<double>("x")));
            Assert.Equal(1, Assert.Single(file.Read<int>("x")));
            Assert.Equal(1L, Assert.Single(file.Read<long>("x")));
        }
    }

    [Fact]
    public void PartsOfATensorAreReadAcrossChunkBoundaries()
    {
        const int Count = 20_001;
        double[] values = Enumerable.Range(0, Count).Select(i => i * 0.5).ToArray();
        using TemporaryFolder folder = new();
        using (SafetensorsWriter writer = new(folder["x.safetensors"], [new("x", SafetensorsType.F64, [Count])]))
        {
            writer.Write<double>("x", values);
            writer.Commit();
        }

        using SafetensorsFile file = SafetensorsFile.Open(folder["x.safetensors"]);
        var part = new float[9_999];
        file.Read(file["x"], part.AsSpan(), firstElement: 10_001);
        Assert.Equal(values[10_001..20_000].Select(value => (float)value), part);
        Assert.Throws<ArgumentOutOfRangeException>(() => file.Read(file["x"], part.AsSpan(), firstElement: 10_003));
    }

    [Fact]
    public void FloatsAreNotReadAsIntegersAndIntegersMustFit()
    {
        SafetensorsFile floats = SafetensorsFile.Parse(SafetensorsBytes.Make("""{"x":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}""", 4));
        Assert.Contains("F32", Assert.Throws<InvalidInputException>(() => floats.Read<int>("x")).Message);
        SafetensorsFile wide = SafetensorsFile.Parse(SafetensorsBytes.Make("""{"x":{"dtype":"I64","shape":[1],"data_offsets":[0,8]}}""", 8));
        Assert.Contains("does not fit", Assert.Throws<InvalidInputException>(() => wide.Read<int>("x")).Message);
        SafetensorsFile eight = SafetensorsFile.Parse(SafetensorsBytes.Make("""{"x":{"dtype":"F8_E4M3","shape":[1],"data_offsets":[0,1]}}""", 1));
        Assert.Contains("F8_E4M3", Assert.Throws<InvalidInputException>(() => eight.Read<float>("x")).Message);
    }

    [Fact]
    public void AnAbsentTensorIsNamedWithThoseThereAre()
    {
        SafetensorsFile file = SafetensorsFile.Parse(SafetensorsBytes.Make("""{"weight":{"dtype":"U8","shape":[],"data_offsets":[0,1]}}""", 1), "model.safetensors");
        string message = Assert.Throws<InvalidInputException>(() => file["bias"]).Message;
        Assert.Contains("'bias'", message);
        Assert.Contains("weight", message);
        Assert.Contains("model.safetensors", message);
        Assert.Null(file.Find("bias"));
        Assert.Null(file.Find(new string('x', 5000)));
        Assert.Equal(1, file["weight"].Count);
    }

    [Fact]
    public void NamesMayBeEscapedOrOutsideAscii()
    {
        SafetensorsFile file = SafetensorsFile.Parse(SafetensorsBytes.Make(
            """{"__metadata__":{"\u0061":"\ud83d\ude00","b\"":""},"\u03b2":{"dtype":"U8","shape":[0,7],"data_offsets":[0,0]},"λ\n":{"data_offsets":[0,2],"shape":[2],"dtype":"BOOL"}}   """, 2));
        Assert.Equal(["β", "λ\n"], file.Entries.Select(entry => entry.Name));
        Assert.Equal([0L, 7], file["β"].Shape);
        Assert.Equal(2, file["λ\n"].Count);
        Assert.Equal("😀", file.Metadata["a"]);
        Assert.Equal("", file.Metadata["b\""]);
    }

    [Fact]
    public void DataMayLieInAnyOrderAndAFileMayBeEmpty()
    {
        SafetensorsFile file = SafetensorsFile.Parse(SafetensorsBytes.Make(
            """{"b":{"dtype":"U8","shape":[2],"data_offsets":[1,3]},"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"z":{"dtype":"F64","shape":[0],"data_offsets":[1,1]}}""", 3));
        Assert.Equal(["b", "a", "z"], file.Entries.Select(entry => entry.Name));
        Assert.Equal(new byte[] { 1, 2 }, file.Read<byte>("b"));
        Assert.Equal(0, SafetensorsFile.Parse(SafetensorsBytes.Make("{}")).Count);
    }

    [Fact]
    public void AMissingFileAFolderAndATruncatedFileAreNamed()
    {
        using TemporaryFolder folder = new();
        Assert.Contains("does not exist", Assert.Throws<InvalidInputException>(() => SafetensorsFile.Open(folder["none.safetensors"])).Message);
        Assert.Contains("is a folder", Assert.Throws<InvalidInputException>(() => SafetensorsFile.Open(folder.Path)).Message);
        File.WriteAllBytes(folder["cut.safetensors"], SafetensorsBytes.Make("""{"x":{"dtype":"U8","shape":[9],"data_offsets":[0,9]}}""", 8));
        Assert.Contains("cut.safetensors", Assert.Throws<InvalidInputException>(() => SafetensorsFile.Open(folder["cut.safetensors"])).Message);
    }

    [Fact]
    public void AFileCutOffAfterItWasOpenedIsAnErrorNotARead()
    {
        using TemporaryFolder folder = new();
        string path = folder["x.safetensors"];
        File.WriteAllBytes(path, SafetensorsBytes.Make("""{"x":{"dtype":"U8","shape":[9],"data_offsets":[0,9]}}""", 9));
        using SafetensorsFile file = SafetensorsFile.Open(path);
        File.Delete(path);
        Assert.Equal(8, file.Read<byte>("x")[8]);
    }

    /// <summary>All of them, and an odd number more: bits are kept, those of NaN too.</summary>
    [Fact]
    public void EveryBFloat16IsTheUpperHalfOfAFloat()
    {
        const int Count = (1 << 16) + 7;
        byte[] head = SafetensorsBytes.Make($$$$"""{"a":{"dtype":"BF16","shape":[{{{{Count}}}}],"data_offsets":[0,{{{{2 * Count}}}}]}}""");
        byte[] data = [.. Enumerable.Range(0, Count).SelectMany(i => BitConverter.GetBytes((ushort)i))];
        using var file = SafetensorsFile.Parse((byte[])[.. head, .. data]);
        Assert.Equal(Enumerable.Range(0, Count).Select(i => (uint)(ushort)i << 16), file.Read<float>("a").Select(BitConverter.SingleToUInt32Bits));
        Assert.Equal(file.Read<float>("a").Select(value => (double)value), file.Read<double>("a"));
    }

    /// <summary>A sparse file of 5 GB, which takes no room on the disk.</summary>
    [Fact]
    public void FilesBeyondTwoGigabytesAreReadAtTheirEnd()
    {
        Assert.SkipWhen(OperatingSystem.IsWindows(), "Needs sparse files: Windows would write 5 GB.");
        const long Count = 2_500_000_000;
        using TemporaryFolder folder = new();
        byte[] head = SafetensorsBytes.Make($$$$"""{"a":{"dtype":"BF16","shape":[{{{{Count}}}}],"data_offsets":[0,{{{{2 * Count}}}}]}}""");
        using (FileStream stream = File.Create(folder["large.safetensors"]))
        {
            stream.Write(head);
            stream.SetLength(head.Length + (2 * Count));
            stream.Seek(-4, SeekOrigin.End);
            stream.Write([0x80, 0x3F, 0x00, 0x40]);
        }

        using SafetensorsFile file = SafetensorsFile.Open(folder["large.safetensors"]);
        var last = new float[3];
        file.Read(file["a"], last.AsSpan(), Count - 3);
        Assert.Equal([0f, 1f, 2f], last);
        Assert.Contains("in parts", Assert.Throws<InvalidInputException>(() => file.Read<float>("a")).Message);
    }

    [Fact]
    public void TensorShapesHaveAtMostFiveDimensions()
    {
        Assert.Equal(Shape.Of([2, 3]), new SafetensorsEntry("x", SafetensorsType.F32, [2, 3]).ToTensorShape());
        Assert.Throws<InvalidInputException>(() => new SafetensorsEntry("x", SafetensorsType.F32, [1, 1, 1, 1, 1, 1]).ToTensorShape());
        Assert.Throws<InvalidInputException>(() => new SafetensorsEntry("x", SafetensorsType.F32, [1L << 31]).ToTensorShape());
    }

    private static SafetensorsFile OfBits(string header, params ReadOnlySpan<ushort> bits)
    {
        byte[] file = SafetensorsBytes.Make(header, 2 * bits.Length);
        MemoryMarshal.AsBytes(bits).CopyTo(file.AsSpan(file.Length - (2 * bits.Length)));
        return SafetensorsFile.Parse(file);
    }
}
