using ExactFlow.Tensors.Files;
using ExactFlow.Testing;

namespace ExactFlow.Tensors.Tests.Files;

public class SafetensorsWriterTests
{
    [Fact]
    public void WhatIsWrittenInPartsAndAnyOrderReadsBack()
    {
        using TemporaryFolder folder = new();
        string path = folder["model.safetensors"];
        Dictionary<string, string> metadata = new() { ["rule"] = "efla", ["note"] = "β > 0 \"quoted\"" };
        using (SafetensorsWriter writer = new(path,
            [new("mask", SafetensorsType.BOOL, [3]), new("w", SafetensorsType.F32, [2, 3]), new("α", SafetensorsType.F64, []), new("half", SafetensorsType.BF16, [1]), new("none", SafetensorsType.F32, [0, 4])],
            metadata))
        {
            writer.Write<float>("w", [1, 2]);
            writer.Write<bool>("mask", [true, false, true]);
            writer.Write<float>("w", [3, 4, 5, 6]);
            writer.Write<ushort>("half", [0x3F80]);
            writer.Write<double>("α", [Math.PI]);
            Assert.False(File.Exists(path));
            writer.Commit();
        }

        Assert.Equal([path], Directory.GetFiles(folder.Path));
        using SafetensorsFile file = SafetensorsFile.Open(path);
        Assert.Equal(["α", "none", "w", "half", "mask"], file.Entries.Select(entry => entry.Name));
        Assert.All(file.Entries, entry => Assert.Equal(0, entry.Offset % entry.Type.Size()));
        Assert.Equal(0, file["α"].Offset % 8);
        Assert.Equal([1f, 2, 3, 4, 5, 6], file.Read<float>("w"));
        Assert.Equal([2L, 3], file["w"].Shape);
        Assert.Equal(Math.PI, Assert.Single(file.Read<double>("α")));
        Assert.Equal(1f, Assert.Single(file.Read<float>("half")));
        Assert.Equal([1, 0, 1], file.Read<int>("mask"));
        Assert.Empty(file.Read<float>("none"));
        Assert.Equal(metadata, file.Metadata);
    }

    [Fact]
    public void TheBytesDoNotDependOnTheOrderOfDeclarationsOrWrites()
    {
        using TemporaryFolder folder = new();
        SafetensorsEntry[] entries = [new("a", SafetensorsType.F32, [1]), new("b", SafetensorsType.F32, [1]), new("c", SafetensorsType.U8, [1])];
        WriteAll(folder["1"], entries, new Dictionary<string, string> { ["x"] = "1", ["y"] = "2" });
        WriteAll(folder["2"], entries.Reverse(), new Dictionary<string, string> { ["y"] = "2", ["x"] = "1" });
        Assert.Equal(File.ReadAllBytes(folder["1"]), File.ReadAllBytes(folder["2"]));

        static void WriteAll(string path, IEnumerable<SafetensorsEntry> order, Dictionary<string, string> metadata)
        {
            using SafetensorsWriter writer = new(path, order, metadata);
            foreach (SafetensorsEntry entry in order)
            {
                if (entry.Type == SafetensorsType.U8)
                {
                    writer.Write<byte>(entry.Name, [7]);
                }
                else
                {
                    writer.Write<float>(entry.Name, [entry.Name[0]]);
                }
            }

            writer.Commit();
        }
    }

    [Fact]
    public void WrongUseIsRefusedAndLeavesNothingBehind()
    {
        using TemporaryFolder folder = new();
        string path = folder["x"];
        using (SafetensorsWriter writer = new(path, [new("w", SafetensorsType.F32, [2])]))
        {
            Assert.Contains("not declared", Assert.Throws<InvalidInputException>(() => writer.Write<float>("v", [1])).Message);
            Assert.Contains("Double", Assert.Throws<InvalidInputException>(() => writer.Write<double>("w", [1])).Message);
            Assert.Throws<InvalidInputException>(() => writer.Write<float>("w", [1, 2, 3]));
            writer.Write<float>("w", [1]);
            Assert.Contains("lacks 4 bytes", Assert.Throws<InvalidInputException>(writer.Commit).Message);
        }

        Assert.Throws<InvalidInputException>(() => new SafetensorsWriter(path, [new("w", SafetensorsType.F32, [1]), new("w", SafetensorsType.F32, [1])]));
        Assert.Throws<InvalidInputException>(() => new SafetensorsWriter(path, [new("w", SafetensorsType.F32, [-1])]));
        Assert.Throws<InvalidInputException>(() => new SafetensorsWriter(path, [new("__metadata__", SafetensorsType.F32, [1])]));
        Assert.Empty(Directory.GetFileSystemEntries(folder.Path));
    }
}
