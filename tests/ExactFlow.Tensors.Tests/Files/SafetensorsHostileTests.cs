using System.Globalization;
using System.Text;
using ExactFlow.Tensors.Files;

namespace ExactFlow.Tensors.Tests.Files;

public class SafetensorsHostileTests
{
    private const string Good = """{"x":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}""";

    public static TheoryData<string, string, int> WrongHeaders => new()
    {
        { "twice", """{"x":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"x":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}""", 2 },
        { "twice", """{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"\u0061":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}""", 2 },
        { "twice", """{"x":{"dtype":"U8","dtype":"U8","shape":[1],"data_offsets":[0,1]}}""", 1 },
        { "twice", """{"x":{"dtype":"U8","shape":[1],"shape":[1],"data_offsets":[0,1]}}""", 1 },
        { "twice", """{"x":{"dtype":"U8","shape":[1],"data_offsets":[0,1],"data_offsets":[0,1]}}""", 1 },
        { "twice", """{"__metadata__":{},"__metadata__":{}}""", 0 },
        { "twice", """{"__metadata__":{"a":"1","a":"2"}}""", 0 },
        { "overlap", """{"x":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"y":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}}""", 3 },
        { "overlap", """{"x":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"y":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}}""", 2 },
        { "hole", """{"x":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"y":{"dtype":"U8","shape":[1],"data_offsets":[2,3]}}""", 3 },
        { "hole", """{"x":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}""", 2 },
        { "but the file holds 9", Good, 9 },
        { "reach beyond the 7", Good, 7 },
        { "need 8 bytes", """{"x":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}""", 4 },
        { "need 16 bytes", """{"x":{"dtype":"F64","shape":[2],"data_offsets":[0,8]}}""", 8 },
        { "2^63", """{"x":{"dtype":"U8","shape":[4294967296,4294967296],"data_offsets":[0,0]}}""", 0 },
        { "2^63", """{"x":{"dtype":"U8","shape":[4294967296,2147483648],"data_offsets":[0,0]}}""", 0 },
        { "need 36893488147419103232 bytes", """{"x":{"dtype":"F64","shape":[4611686018427387904],"data_offsets":[0,0]}}""", 0 },
        { "an extent", """{"x":{"dtype":"U8","shape":[-1],"data_offsets":[0,0]}}""", 0 },
        { "an extent", """{"x":{"dtype":"U8","shape":[1.0],"data_offsets":[0,1]}}""", 1 },
        { "an extent", """{"x":{"dtype":"U8","shape":[9223372036854775808],"data_offsets":[0,1]}}""", 1 },
        { "an extent", """{"x":{"dtype":"U8","shape":["1"],"data_offsets":[0,1]}}""", 1 },
        { "an extent", """{"x":{"dtype":"U8","shape":[[1]],"data_offsets":[0,1]}}""", 1 },
        { "must be an array", """{"x":{"dtype":"U8","shape":{},"data_offsets":[0,1]}}""", 1 },
        { "two integers", """{"x":{"dtype":"U8","shape":[1],"data_offsets":[0]}}""", 1 },
        { "two integers", """{"x":{"dtype":"U8","shape":[1],"data_offsets":[0,1,2]}}""", 1 },
        { "two integers", """{"x":{"dtype":"U8","shape":[1],"data_offsets":[1,0]}}""", 1 },
        { "two integers", """{"x":{"dtype":"U8","shape":[1],"data_offsets":[-1,0]}}""", 1 },
        { "two integers", """{"x":{"dtype":"U8","shape":[1],"data_offsets":null}}""", 1 },
        { "two integers", """{"x":{"dtype":"U8","shape":[1],"data_offsets":[0,99999999999999999999]}}""", 1 },
        { "dtype must be one of", """{"x":{"dtype":"F7","shape":[1],"data_offsets":[0,1]}}""", 1 },
        { "dtype must be one of", """{"x":{"dtype":7,"shape":[1],"data_offsets":[0,1]}}""", 1 },
        { "lacks dtype", """{"x":{"shape":[1],"data_offsets":[0,1]}}""", 1 },
        { "lacks shape", """{"x":{"dtype":"U8","data_offsets":[0,1]}}""", 1 },
        { "lacks data_offsets", """{"x":{"dtype":"U8","shape":[1]}}""", 1 },
        { "a key other than", """{"x":{"dtype":"U8","shape":[1],"data_offsets":[0,1],"layout":"C"}}""", 1 },
        { "expected an object", """{"x":[1]}""", 1 },
        { "must be an object of texts", """{"__metadata__":7}""", 0 },
        { "must be a text", """{"__metadata__":{"a":1}}""", 0 },
        { "must be a text", """{"__metadata__":{"a":"\ud800"}}""", 0 },
        { "no character", """{"__metadata__":{"\udc00":"a"}}""", 0 },
        { "no character", """{"\ud800\ud800":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}""", 1 },
        { "not valid JSON", """{"x":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}""", 8 },
        { "not valid JSON", Good + "{}", 8 },
        { "not valid JSON", """{"x":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},}""", 8 },
        { "not valid JSON", """{"x":{"dtype":"\uZZZZ"}}""", 8 },
        { "not valid JSON", "{/**/}", 0 },
        { "start of the JSON header", "[]", 0 },
        { "start of the JSON header", " {}", 0 },
    };

    [Theory]
    [MemberData(nameof(WrongHeaders))]
    public void AWrongHeaderIsRefusedWithTheReason(string reason, string header, int dataBytes)
    {
        byte[] bytes = SafetensorsBytes.Make(header, dataBytes);
        string message = Assert.Throws<InvalidInputException>(() => SafetensorsFile.Parse(bytes, "some.safetensors")).Message;
        Assert.Contains(reason, message);
        Assert.Contains("some.safetensors", message);
        Assert.Matches("at byte [0-9]+", message);
        Assert.DoesNotContain('\n', message);
    }

    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    [InlineData(55)]
    [InlineData(100_000_001)]
    [InlineData(long.MaxValue)]
    [InlineData(ulong.MaxValue)]
    public void AHeaderLengthThatCannotBeIsRefusedWithoutAllocatingIt(ulong claimed)
    {
        byte[] bytes = SafetensorsBytes.Make(Good, 0, claimed);
        long before = GC.GetAllocatedBytesForCurrentThread();
        InvalidInputException error = Assert.Throws<InvalidInputException>(() => SafetensorsFile.Parse(bytes));
        Assert.True(GC.GetAllocatedBytesForCurrentThread() - before < 1 << 20);
        Assert.Contains(claimed.ToString(CultureInfo.InvariantCulture), error.Message);
    }

    [Theory]
    [InlineData(0)]
    [InlineData(7)]
    [InlineData(9)]
    public void AFileTooShortForAHeaderIsRefused(int length)
        => Assert.Contains(length.ToString(CultureInfo.InvariantCulture), Assert.Throws<InvalidInputException>(() => SafetensorsFile.Parse(new byte[length])).Message);

    [Fact]
    public void BytesThatAreNotUtf8AreRefused()
        => Assert.Contains("UTF-8", Assert.Throws<InvalidInputException>(() => SafetensorsFile.Parse(SafetensorsBytes.Make([(byte)'{', (byte)'"', 0xFF, (byte)'"', (byte)'}']))).Message);

    [Fact]
    public void NamesAndMetadataHaveLimits()
    {
        string name = new('n', 4097);
        Assert.Contains("4097", Refusal($$$$"""{"{{{{name}}}}":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}"""));
        Assert.Contains("8192", Refusal($$$$"""{"__metadata__":{ {{{{string.Join(',', Enumerable.Range(0, 8193).Select(i => $"\"{i}\":\"\""))}}}} }}"""));
        Assert.Equal(1, SafetensorsFile.Parse(SafetensorsBytes.Make($$$$"""{"{{{{name[1..]}}}}":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}""")).Count);

        static string Refusal(string header) => Assert.Throws<InvalidInputException>(() => SafetensorsFile.Parse(SafetensorsBytes.Make(header))).Message;
    }

    [Fact]
    public void AHeaderOfHundredsOfThousandsOfTinyEntriesStaysWithinTwiceItsSize()
    {
        const string Entry = """{"dtype":"U8","shape":[0],"data_offsets":[0,0]}""";
        StringBuilder header = new("{");
        for (int i = 0; i < 200_000; i++)
        {
            header.Append(i == 0 ? "" : ",").Append('"').Append(i.ToString("x", CultureInfo.InvariantCulture)).Append("\":").Append(Entry);
        }

        StayWithinTheBudget(SafetensorsBytes.Make(header.Append('}').ToString()), accepted: true);
    }

    [Fact]
    public void LongTextsWithManyEscapesStayWithinTwiceTheFile()
    {
        string escapes = new StringBuilder().Insert(0, "\\\"", 2_000_000).ToString();
        StayWithinTheBudget(SafetensorsBytes.Make($$$$"""{"__metadata__":{"a":"{{{{escapes}}}}"}}"""), accepted: true);
        StayWithinTheBudget(SafetensorsBytes.Make($$$$"""{"a":{"dtype":"{{{{escapes}}}}"}}"""), accepted: false);
        StayWithinTheBudget(SafetensorsBytes.Make($$$$"""{"{{{{escapes}}}}":{}}"""), accepted: false);
        StayWithinTheBudget(SafetensorsBytes.Make($$$$"""{"a":{"shape":[{{{{new StringBuilder().Insert(0, "1,", 2_000_000)}}}}1],"data_offsets":[0,1],"dtype":"U8"}}""", 1), accepted: true);
        StayWithinTheBudget(SafetensorsBytes.Make(new StringBuilder().Insert(0, "{\"\":", 1_000_000).ToString()), accepted: false);
    }

    private static void StayWithinTheBudget(byte[] bytes, bool accepted)
    {
        long before = GC.GetAllocatedBytesForCurrentThread();
        bool opened = true;
        try
        {
            SafetensorsFile.Parse(bytes).Dispose();
        }
        catch (InvalidInputException)
        {
            opened = false;
        }

        long allocated = GC.GetAllocatedBytesForCurrentThread() - before;
        Assert.Equal(accepted, opened);
        Assert.True(allocated <= (2L * bytes.Length) + (1 << 20), $"{allocated} bytes were allocated for a file of {bytes.Length}");
    }
}
