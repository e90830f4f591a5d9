using ExactFlow.Tensors.Files;
using ExactFlow.Testing;

namespace ExactFlow.Tensors.Tests.Files;

public sealed class SafetensorsMappingTests
{
    private static readonly float[] First = [1.5f, -2, float.NaN, 4, 5, 6], Second = [7, 8, 9];

    [Fact]
    public void TensorsHoldTheValuesOfTheFileAndTakeNoMemoryOfTheDevice()
    {
        using var folder = new TemporaryFolder();
        using var device = new CpuDevice(1);
        using SafetensorsFile file = SafetensorsFile.Open(Write(folder["a.safetensors"]));
        using SafetensorsMapping mapping = file.TryMap()!;
        using Tensor first = mapping.TryTensor(device, file["first"], [2, 3])!, second = mapping.TryTensor(device, file["second"], [3])!;
        Assert.Equal(First, first.ToHost<float>());
        Assert.Equal(Second, second.ToHost<float>());
        Assert.Equal(file["second"].Offset - file["first"].Offset, second.Address - first.Address);
        Assert.Equal((2, 0L, 0L), (device.Pool.RentedBlocks, device.Pool.RentedBytes, device.Pool.ReservedBytes));
    }

    [Fact]
    public void WhatIsWrittenStaysInTheTensor()
    {
        using var folder = new TemporaryFolder();
        using var device = new CpuDevice(1);
        string path = Write(folder["a.safetensors"]);
        byte[] before = File.ReadAllBytes(path);
        using SafetensorsFile file = SafetensorsFile.Open(path);
        using (SafetensorsMapping mapping = file.TryMap()!, other = file.TryMap()!)
        using (Tensor changed = mapping.TryTensor(device, file["second"], [3])!, unchanged = other.TryTensor(device, file["second"], [3])!)
        {
            changed.CopyFrom<float>([0, -1, -2]);
            Assert.Equal([0, -1, -2], changed.ToHost<float>());
            Assert.Equal(Second, unchanged.ToHost<float>());
        }

        Assert.Equal(before, File.ReadAllBytes(path));
    }

    /// <summary>A file is mapped, not its name: what comes in its place has no part in it, and neither has its end.</summary>
    [Theory]
    [InlineData("replace")]
    [InlineData("rename")]
    [InlineData("delete")]
    public void AFileThatIsReplacedStaysAsItWas(string change)
    {
        Assert.SkipWhen(OperatingSystem.IsWindows(), "Windows refuses to replace a mapped file.");
        using var folder = new TemporaryFolder();
        using var device = new CpuDevice(1);
        string path = Write(folder["a.safetensors"]);
        Tensor first;
        using (SafetensorsFile file = SafetensorsFile.Open(path))
        using (SafetensorsMapping mapping = file.TryMap()!)
        {
            first = mapping.TryTensor(device, file["first"], [6])!;
        }

        using (first)
        {
            switch (change)
            {
                case "replace":
                    AtomicFile.WriteAllText(path, "short");
                    break;
                case "rename":
                    File.Move(path, folder["b.safetensors"]);
                    break;
                default:
                    File.Delete(path);
                    break;
            }

            Assert.Equal(First, first.ToHost<float>());
        }
    }

    [Fact]
    public void TheMappingEndsWithTheLastTensor()
    {
        Assert.SkipUnless(OperatingSystem.IsLinux(), "Only Linux tells what is mapped.");
        using var folder = new TemporaryFolder();
        using var device = new CpuDevice(1);
        string path = Write(folder["a.safetensors"]);
        using SafetensorsFile file = SafetensorsFile.Open(path);
        SafetensorsMapping mapping = file.TryMap()!;
        Tensor first = mapping.TryTensor(device, file["first"], [6])!, second = mapping.TryTensor(device, file["second"], [3])!;
        mapping.Dispose();
        mapping.Dispose();
        Assert.Throws<ObjectDisposedException>(() => mapping.TryTensor(device, file["first"], [6]));
        first.Dispose();
        first.Dispose();
        Assert.Contains(path, File.ReadAllText("/proc/self/maps"), StringComparison.Ordinal);
        second.Dispose();
        Assert.DoesNotContain(path, File.ReadAllText("/proc/self/maps"), StringComparison.Ordinal);
        Assert.Equal(0, device.Pool.RentedBlocks);
    }

    [Fact]
    public void WhatCannotBeMappedIsLeftToBeRead()
    {
        using var folder = new TemporaryFolder();
        using var device = new CpuDevice(1);
        string path = Write(folder["a.safetensors"]);
        Assert.Null(SafetensorsFile.Parse(File.ReadAllBytes(path)).TryMap());
        using SafetensorsFile file = SafetensorsFile.Open(path);
        using SafetensorsMapping mapping = file.TryMap()!;
        Assert.Null(mapping.TryTensor(device, file["half"], [1]));
        Assert.Null(mapping.TryTensor(device, file["none"], [0, 4]));

        // A header whose length is no multiple of four.
        File.WriteAllBytes(path, SafetensorsBytes.Make("""{"odd":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}} """, 4));
        using SafetensorsFile odd = SafetensorsFile.Open(path);
        using SafetensorsMapping oddMapping = odd.TryMap()!;
        Assert.NotEqual(0, odd["odd"].Offset % 4);
        Assert.Null(oddMapping.TryTensor(device, odd["odd"], [1]));
        Assert.Equal(0, device.Pool.RentedBlocks);
    }

    private static string Write(string path)
    {
        using var writer = new SafetensorsWriter(
            path, [new("first", SafetensorsType.F32, [2, 3]), new("half", SafetensorsType.F16, [1]), new("none", SafetensorsType.F32, [0, 4]), new("second", SafetensorsType.F32, [3])]);
        writer.Write<float>("first", First);
        writer.Write<float>("second", Second);
        writer.Write<Half>("half", [(Half)1]);
        writer.Commit();
        return path;
    }
}
