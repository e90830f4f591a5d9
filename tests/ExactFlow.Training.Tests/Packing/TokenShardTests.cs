using System.Security.Cryptography;
using ExactFlow.Tensors;
using ExactFlow.Tensors.Randomness;
using ExactFlow.Training.Packing;

namespace ExactFlow.Training.Tests.Packing;

public sealed class TokenShardTests
{
    /// <summary>What every byte of a shard does when it is changed: the checksum covers them all.</summary>
    [Fact]
    public void EveryChangedByteIsFound()
    {
        byte[] shard = Make(documents: 4, wide: false);
        TokenShard.Parse(shard).Verify();
        for (int i = 0; i < shard.Length; i++)
        {
            byte[] changed = [.. shard];
            changed[i] ^= (byte)(1 << (i % 8));
            Assert.Throws<InvalidInputException>(() => TokenShard.Parse(changed).Verify());
        }
    }

    [Fact]
    public void EveryTruncationIsFoundOnOpening()
    {
        byte[] shard = Make(documents: 3, wide: true);
        for (int length = 0; length < shard.Length; length++)
        {
            string message = Assert.Throws<InvalidInputException>(() => TokenShard.Parse(shard.AsMemory(0, length))).Message;
            Assert.Contains("damaged or cut off", message, StringComparison.Ordinal);
        }
    }

    /// <summary>200,000 mutated shards are read or refused with the one exception that users see; no byte is allocated that the file does not have.</summary>
    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3)]
    [InlineData(4)]
    public void MutatedShardsAreReadOrRefused(int seed)
    {
        const int Files = 50_000;
        byte[][] originals = [Make(1, wide: false), Make(5, wide: false), Make(3, wide: true), Make(40, wide: false)];
        Philox random = new((ulong)seed, Philox.StreamOf("shard fuzz"));
        ulong position = 0;
        int opened = 0, verified = 0;
        var tokens = new int[64];
        for (int i = 0; i < Files; i++)
        {
            byte[] file = [.. originals[random.Below(position++, originals.Length)]];
            for (int mutations = 1 + random.Below(position++, 3); mutations > 0; mutations--)
            {
                file = Mutate(file, random, ref position);
            }

            long before = GC.GetAllocatedBytesForCurrentThread();
            try
            {
                using var shard = TokenShard.Parse(file);
                opened++;
                for (long document = 0; document < shard.Header.Documents; document++)
                {
                    int count = (int)Math.Min(tokens.Length, shard.Start(document + 1) - shard.Start(document));
                    Assert.InRange(count, 1, tokens.Length);
                    shard.Read(shard.Start(document), tokens.AsSpan(0, count));
                }

                shard.Verify();
                verified++;
            }
            catch (InvalidInputException error)
            {
                Assert.InRange(error.Message.Length, 1, 600);
            }

            long allocated = GC.GetAllocatedBytesForCurrentThread() - before;
            Assert.True(allocated <= (3L * file.Length) + (1 << 16), $"Mutation {i} of seed {seed} has {file.Length} bytes, but {allocated} were allocated.");
        }

        // Changed tokens pass the opening and fail the checksum; a mutation may also change nothing.
        Assert.InRange(opened, Files / 20, Files / 2);
        Assert.InRange(verified, 1, Files / 100);
    }

    private static byte[] Make(int documents, bool wide)
    {
        using PackingSession session = new(documents, mostWords: 8);
        session.Pack().Dispose();
        byte[] narrow = File.ReadAllBytes(Path.Combine(session.Output, "shard-00000.tokens"));
        return wide ? Widen(narrow) : narrow;
    }

    /// <summary>The same documents with four bytes to a token, put together after the description of the format and not by the writer.</summary>
    private static byte[] Widen(byte[] narrow)
    {
        var shard = TokenShard.Parse(narrow);
        ShardHeader header = shard.Header;
        var tokens = new int[header.Tokens];
        shard.Read(0, tokens);
        tokens[^1] = 70_000;
        byte[] body =
        [
            .. tokens.SelectMany(BitConverter.GetBytes),
            .. new byte[(8 - (tokens.Length * 4 % 8)) % 8],
            .. Enumerable.Range(0, (int)header.Documents + 1).SelectMany(i => BitConverter.GetBytes(shard.Start(i))),
            .. Enumerable.Range(0, (int)header.Documents).SelectMany(i => BitConverter.GetBytes(shard.Key(i))),
        ];
        byte[] front =
        [
            .. "EXFTOKEN"u8, .. BitConverter.GetBytes(1), .. BitConverter.GetBytes(4), .. BitConverter.GetBytes(70_001), .. BitConverter.GetBytes(header.DocumentToken),
            .. BitConverter.GetBytes(header.Documents), .. BitConverter.GetBytes(header.Tokens), .. BitConverter.GetBytes(header.TextBytes), .. new byte[16], .. Convert.FromHexString(header.TokenizerHash),
        ];
        byte[] wide = [.. front, .. SHA256.HashData([.. body, .. front]), .. body];
        var parsed = TokenShard.Parse(wide);
        parsed.Verify();
        var read = new int[tokens.Length];
        parsed.Read(0, read);
        Assert.Equal(tokens, read);
        return wide;
    }

    private static byte[] Mutate(byte[] file, Philox random, ref ulong position)
    {
        // Half of the mutations hit the header, which would otherwise be a small part of the file.
        int at = random.Below(position++, Math.Max(1, random.Below(position++, 2) == 0 ? Math.Min(file.Length, ShardHeader.Size) : file.Length));
        switch (random.Below(position++, 7))
        {
            case 0 when file.Length > 0: file[at] = (byte)random.Below(position++, 256); break;
            case 1 when file.Length > 0: file[at] ^= (byte)(1 << random.Below(position++, 8)); break;
            case 2: return file[..at];
            case 3: return [.. file[..at], (byte)random.Below(position++, 256), .. file[at..]];
            case 4: return [.. file, .. file[at..]];
            case 5 when at + 8 <= file.Length: BitConverter.TryWriteBytes(file.AsSpan(at & ~7), Interesting(random.Below(position++, 8), file.Length)); break;
            default:
                if (at + 4 <= file.Length)
                {
                    BitConverter.TryWriteBytes(file.AsSpan(at & ~3), (int)Interesting(random.Below(position++, 8), file.Length));
                }

                break;
        }

        return file;
    }

    private static long Interesting(int which, int length) => which switch
    {
        0 => 0,
        1 => 1,
        2 => -1,
        3 => long.MaxValue,
        4 => long.MinValue,
        5 => length,
        6 => long.MaxValue / 8,
        _ => int.MaxValue,
    };
}
