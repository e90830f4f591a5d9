using System.Text;
using ExactFlow.Tensors;
using ExactFlow.Training.Tracking;

namespace ExactFlow.Training.Tests.Tracking;

/// <summary>Event files are read back by a decoder written here from the formats' definitions, with a bitwise CRC.</summary>
public class TensorBoardWriterTests
{
    [Theory]
    [InlineData("", 0x00000000u)]
    [InlineData("123456789", 0xE3069283u)]
    [InlineData("The quick brown fox jumps over the lazy dog", 0x22620404u)]
    public void TheCrcHasTheKnownValues(string text, uint expected)
    {
        byte[] data = Encoding.ASCII.GetBytes(text);
        Assert.Equal(expected, TensorBoardWriter.Crc32C(data));
        Assert.Equal(expected, BitwiseCrc(data));
    }

    /// <summary>The vectors of RFC 3720, B.4.</summary>
    [Fact]
    public void TheCrcHasTheValuesOfTheIscsiStandard()
    {
        Assert.Equal(0x8A9136AAu, TensorBoardWriter.Crc32C(new byte[32]));
        Assert.Equal(0x62A8AB43u, TensorBoardWriter.Crc32C(Enumerable.Repeat((byte)0xFF, 32).ToArray()));
        Assert.Equal(0x46DD794Eu, TensorBoardWriter.Crc32C(Enumerable.Range(0, 32).Select(i => (byte)i).ToArray()));
        Assert.Equal(0x113FDB5Cu, TensorBoardWriter.Crc32C(Enumerable.Range(0, 32).Select(i => (byte)(31 - i)).ToArray()));
    }

    [Fact]
    public void ScalarsAndTextsReadBack()
    {
        using TemporaryFolder folder = new();
        string longText = string.Concat(Enumerable.Repeat("λ flows ", 5000));
        using (TensorBoardWriter writer = new(folder["logs"], clock: new FixedClock()))
        {
            writer.Scalar("loss/training", 0, 5.5);
            writer.Scalar("loss/training", 1_000_000_007, float.NaN);
            writer.Text("sample", 300, longText);
        }

        string path = Assert.Single(Directory.GetFiles(folder["logs"]));
        Assert.StartsWith("events.out.tfevents.1700000000.", Path.GetFileName(path));
        List<Dictionary<int, List<object>>> events = Events(path);
        Assert.Equal(4, events.Count);
        Assert.All(events, message => Assert.Equal(1_700_000_000.25, BitConverter.UInt64BitsToDouble((ulong)message[1][0])));
        Assert.Equal("brain.Event:2", Utf8(events[0][3][0]));

        Dictionary<int, List<object>> value = SummaryValue(events[1]);
        Assert.Equal(0ul, events[1][2][0]);
        Assert.Equal("loss/training", Utf8(value[1][0]));
        Assert.Equal(5.5f, BitConverter.UInt32BitsToSingle((uint)value[2][0]));

        Assert.Equal(1_000_000_007ul, events[2][2][0]);
        Assert.True(float.IsNaN(BitConverter.UInt32BitsToSingle((uint)SummaryValue(events[2])[2][0])));

        value = SummaryValue(events[3]);
        Assert.Equal("sample", Utf8(value[1][0]));
        Dictionary<int, List<object>> tensor = Fields((byte[])value[8][0]);
        Assert.Equal(7ul, tensor[1][0]);
        Assert.Equal(longText, Utf8(tensor[8][0]));
        Dictionary<int, List<object>> dimension = Fields((byte[])Fields((byte[])tensor[2][0])[2][0]);
        Assert.Equal(1ul, dimension[1][0]);
        Dictionary<int, List<object>> plugin = Fields((byte[])Fields((byte[])value[9][0])[1][0]);
        Assert.Equal("text", Utf8(plugin[1][0]));
    }

    [Fact]
    public void AResumedRunMarksTheStepsItWritesAgain()
    {
        using TemporaryFolder folder = new();
        using (TensorBoardWriter writer = new(folder.Path))
        {
            writer.Scalar("loss", 1, 1);
        }

        using (TensorBoardWriter writer = new(folder.Path, lastStep: 41))
        {
            writer.Flush();
            Dictionary<int, List<object>> start = Events(writer.FilePath)[1];
            Assert.Equal(42ul, start[2][0]);
            Assert.Equal(1ul, Fields((byte[])start[7][0])[1][0]);
        }

        Assert.Equal(2, Directory.GetFiles(folder.Path).Length);
    }

    [Fact]
    public void AFolderThatCannotBeWrittenIsNamed()
    {
        using TemporaryFolder folder = new();
        File.WriteAllText(folder["file"], "");
        Assert.Contains("TensorBoard", Assert.Throws<InvalidInputException>(() => new TensorBoardWriter(Path.Combine(folder["file"], "logs"))).Message);
    }

    private static Dictionary<int, List<object>> SummaryValue(Dictionary<int, List<object>> message) => Fields((byte[])Fields((byte[])message[5][0])[1][0]);

    private static string Utf8(object bytes) => Encoding.UTF8.GetString((byte[])bytes);

    private static List<Dictionary<int, List<object>>> Events(string path)
    {
        using FileStream file = new(path, FileMode.Open, FileAccess.Read, FileShare.ReadWrite);
        var bytes = new byte[file.Length];
        file.ReadExactly(bytes);
        List<Dictionary<int, List<object>>> events = [];
        for (int position = 0; position < bytes.Length;)
        {
            int length = (int)BitConverter.ToUInt64(bytes, position);
            Assert.Equal(Masked(bytes.AsSpan(position, 8)), BitConverter.ToUInt32(bytes, position + 8));
            Assert.Equal(Masked(bytes.AsSpan(position + 12, length)), BitConverter.ToUInt32(bytes, position + 12 + length));
            events.Add(Fields(bytes[(position + 12)..(position + 12 + length)]));
            position += 16 + length;
        }

        return events;
    }

    /// <summary>Protocol-buffer fields by number: varints and fixed numbers as ulong or uint, the rest as bytes.</summary>
    private static Dictionary<int, List<object>> Fields(byte[] message)
    {
        Dictionary<int, List<object>> fields = [];
        int position = 0;
        while (position < message.Length)
        {
            ulong key = Varint();
            object value;
            switch (key & 7)
            {
                case 0: value = Varint(); break;
                case 1: value = BitConverter.ToUInt64(message, position); position += 8; break;
                case 5: value = BitConverter.ToUInt32(message, position); position += 4; break;
                default:
                    int length = (int)Varint();
                    value = message[position..(position + length)];
                    position += length;
                    break;
            }

            if (!fields.TryGetValue((int)(key >> 3), out List<object>? list))
            {
                fields[(int)(key >> 3)] = list = [];
            }

            list.Add(value);
        }

        Assert.Equal(message.Length, position);
        return fields;

        ulong Varint()
        {
            ulong number = 0;
            for (int shift = 0; ; shift += 7)
            {
                byte one = message[position++];
                number |= (ulong)(one & 0x7F) << shift;
                if (one < 0x80)
                {
                    return number;
                }
            }
        }
    }

    private static uint Masked(ReadOnlySpan<byte> data)
    {
        uint crc = BitwiseCrc(data);
        return ((crc >> 15) | (crc << 17)) + 0xA282EAD8u;
    }

    private static uint BitwiseCrc(ReadOnlySpan<byte> data)
    {
        uint crc = 0xFFFFFFFF;
        foreach (byte one in data)
        {
            crc ^= one;
            for (int bit = 0; bit < 8; bit++)
            {
                crc = (crc & 1) != 0 ? (crc >> 1) ^ 0x82F63B78 : crc >> 1;
            }
        }

        return ~crc;
    }

    private sealed class FixedClock : TimeProvider
    {
        public override DateTimeOffset GetUtcNow() => DateTimeOffset.FromUnixTimeMilliseconds(1_700_000_000_250);
    }
}
