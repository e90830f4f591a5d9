using System.Diagnostics;
using System.Text;
using ExactFlow.Tensors.Files;
using ExactFlow.Tensors.Randomness;
using ExactFlow.Testing;

namespace ExactFlow.Tensors.Tests.Files;

/// <summary>
/// 200,000 mutated files: each either opens and yields all of its values, or is refused with the one exception type users see. None crashes, hangs, or allocates more
/// than twice the file plus 1 MB.
/// </summary>
public class SafetensorsFuzzTests
{
    private const int FilesPerSeed = 50_000;

    private static readonly string[] Fragments =
    [
        "0", "1", "-1", "8", "16", "9223372036854775807", "18446744073709551615", "1e9", "0.5", "null", "true", "{}", "[]", "\"\"", "\"F32\"", "\"F64\"", "\"I64\"", "\"U8\"", "\"BF16\"", "\"F8_E4M3\"",
        "\"dtype\"", "\"shape\"", "\"data_offsets\"", "\"__metadata__\"", "\"q\"", "\"\\u0071\"", "\"\\ud800\"", "[0,8]", "[8,0]", "[2,2]", "[]", "[0]", ":", ",", "{", "}", "[", "]", " ",
        "{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}",
    ];

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3)]
    [InlineData(4)]
    public void MutatedFilesAreReadOrRefused(int seed)
    {
        byte[][] originals = Originals();
        Philox random = new((ulong)seed, Philox.StreamOf("safetensors fuzz"));
        ulong position = 0;
        int opened = 0;
        long slowest = 0;
        var values = new double[64];
        for (int i = 0; i < FilesPerSeed; i++)
        {
            byte[] file = originals[random.Below(position++, originals.Length)];
            int mutations = 1 + random.Below(position++, 3);
            for (int mutation = 0; mutation < mutations; mutation++)
            {
                file = random.Below(position++, 2) == 0 ? MutateStructure(file, random, ref position) : MutateBytes(file, random, ref position);
            }

            long started = Stopwatch.GetTimestamp();
            long before = GC.GetAllocatedBytesForCurrentThread();
            opened += Read(file, values) ? 1 : 0;
            long allocated = GC.GetAllocatedBytesForCurrentThread() - before;
            slowest = Math.Max(slowest, Stopwatch.GetTimestamp() - started);
            Assert.True(allocated <= (2L * file.Length) + (1 << 20), $"File {i} of seed {seed} has {file.Length} bytes, but {allocated} were allocated.");
        }

        // Mutations of data bytes and blanks leave a file valid: if none opened, or all did, the fuzzer would test nothing.
        Assert.InRange(opened, FilesPerSeed / 50, FilesPerSeed / 2);
        Assert.True(Stopwatch.GetElapsedTime(0, slowest) < TimeSpan.FromSeconds(5));
    }

    private static byte[][] Originals()
    {
        List<byte[]> originals =
        [
            SafetensorsBytes.Make("""{"q":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]},"k":{"dtype":"F64","shape":[1],"data_offsets":[16,24]}}""", 24),
            SafetensorsBytes.Make("""{"__metadata__":{"rule":"efla","scale":"0.25"},"beta":{"dtype":"BF16","shape":[3],"data_offsets":[0,6]},"ids":{"dtype":"I64","shape":[],"data_offsets":[6,14]}}""", 14),
            SafetensorsBytes.Make("""{"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},"b\n":{"dtype":"BOOL","shape":[1,1,1],"data_offsets":[0,1]},"c":{"dtype":"F16","shape":[1],"data_offsets":[1,3]}}  """, 3),
        ];
        foreach (string name in (string[])["bf16_bit_exact", "f16_bit_exact"])
        {
            if (SharedData.TryFind($"safetensors/{name}.safetensors") is { } path)
            {
                originals.Add(File.ReadAllBytes(path));
            }
        }

        return [.. originals];
    }

    private static bool Read(byte[] bytes, double[] values)
    {
        try
        {
            using SafetensorsFile file = SafetensorsFile.Parse(bytes);
            _ = file.Metadata.Count;
            foreach (SafetensorsEntry entry in file.Entries)
            {
                Assert.Equal(entry.Name, file[entry.Name].Name);
                Assert.InRange(entry.Offset + entry.ByteLength, 8, bytes.Length);
                if (entry.Type is not (SafetensorsType.C64 or SafetensorsType.F8E4M3 or SafetensorsType.F8E5M2 or SafetensorsType.F8E8M0))
                {
                    file.Read(entry, values.AsSpan(0, (int)Math.Min(values.Length, entry.Count)));
                }
            }

            return true;
        }
        catch (InvalidInputException error)
        {
            Assert.True(error.Message.Length < 1200);
            return false;
        }
    }

    private static byte[] MutateBytes(byte[] file, Philox random, ref ulong position)
    {
        byte[] copy = (byte[])file.Clone();
        int at = random.Below(position++, Math.Max(1, copy.Length));
        switch (random.Below(position++, 5))
        {
            case 0 when copy.Length > 0: copy[at] = (byte)random.Below(position++, 256); break;
            case 1 when copy.Length > 0: copy[at] ^= (byte)(1 << random.Below(position++, 8)); break;
            case 2: copy = copy[..at]; break;
            case 3: copy = [.. copy[..at], (byte)random.Below(position++, 256), .. copy[at..]]; break;
            default: copy = [.. copy, .. copy[at..]]; break;
        }

        return copy;
    }

    /// <summary>Replaces, inserts, repeats or removes a JSON token of the header and mends the length field, so that the damage reaches the parser.</summary>
    private static byte[] MutateStructure(byte[] file, Philox random, ref ulong position)
    {
        if (file.Length < 10 || BitConverter.ToUInt64(file) > (ulong)(file.Length - 8))
        {
            return file;
        }

        int length = (int)BitConverter.ToUInt64(file);
        List<string> tokens = Tokens(Encoding.Latin1.GetString(file, 8, length));
        int at = random.Below(position++, Math.Max(1, tokens.Count));
        string fragment = Fragments[random.Below(position++, Fragments.Length)];
        switch (random.Below(position++, 6))
        {
            case 0 when tokens.Count > 0: tokens[at] = fragment; break;
            case 1 when tokens.Count > 0: tokens.RemoveAt(at); break;
            case 2 when tokens.Count > 0: tokens[at] = tokens[random.Below(position++, tokens.Count)]; break;
            case 3: tokens.Insert(at, " "); break;
            case 4: tokens.InsertRange(at, tokens.Slice(at, Math.Min(tokens.Count - at, 1 + random.Below(position++, 12)))); break;
            default: tokens.Insert(at, fragment); break;
        }

        byte[] header = Encoding.Latin1.GetBytes(string.Concat(tokens));
        return [.. BitConverter.GetBytes((ulong)header.Length), .. header, .. file[(8 + length)..]];
    }

    private static List<string> Tokens(string json)
    {
        List<string> tokens = [];
        for (int i = 0; i < json.Length;)
        {
            int end = i + 1;
            if (json[i] == '"')
            {
                end = json.IndexOf('"', i + 1) is var close and >= 0 ? close + 1 : json.Length;
            }
            else if (char.IsAsciiLetterOrDigit(json[i]))
            {
                while (end < json.Length && char.IsAsciiLetterOrDigit(json[end]))
                {
                    end++;
                }
            }

            tokens.Add(json[i..end]);
            i = end;
        }

        return tokens;
    }
}
