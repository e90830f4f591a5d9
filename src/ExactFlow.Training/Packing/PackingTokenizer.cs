using System.Buffers.Binary;
using System.Runtime.InteropServices;
using System.Security.Cryptography;
using ExactFlow.Models;
using ExactFlow.Models.Text;
using ExactFlow.Tensors;

namespace ExactFlow.Training.Packing;

/// <summary>A tokenizer as packing sees it: text to ids, how large they get, with which one a document begins, and the hash of the file.</summary>
internal sealed class PackingTokenizer
{
    private readonly BytePairTokenizer tokenizer;

    private PackingTokenizer(BytePairTokenizer tokenizer, byte[] json, string documentToken)
    {
        this.tokenizer = tokenizer;
        Json = json;
        DocumentText = documentToken;
        DocumentToken = tokenizer.SpecialTokens[documentToken];
        Hash = Convert.ToHexStringLower(SHA256.HashData(json));
    }

    /// <summary>The tokenizer.json.</summary>
    public byte[] Json { get; }

    /// <summary>SHA-256 of the tokenizer.json.</summary>
    public string Hash { get; }

    /// <summary>Number of ids.</summary>
    public int VocabularySize => tokenizer.VocabularySize;

    /// <summary>Bytes that a shard needs for an id.</summary>
    public int BytesPerToken => VocabularySize <= 1 << 16 ? sizeof(ushort) : sizeof(int);

    /// <summary>The token that every document begins with.</summary>
    public int DocumentToken { get; }

    /// <summary>Its content.</summary>
    public string DocumentText { get; }

    /// <summary>Loads a tokenizer.</summary>
    /// <param name="path">A tokenizer.json, or a folder with one or with the files of GPT-2.</param>
    /// <param name="documentToken">Content of the special token that every document begins with, or null for the usual one.</param>
    /// <exception cref="InvalidInputException">It cannot be read, or has no such token.</exception>
    public static PackingTokenizer Load(string path, string? documentToken)
    {
        BytePairTokenizer tokenizer = BytePairTokenizer.Load(path);
        string? content = documentToken is null
            ? Training.DocumentToken.Find(tokenizer)
            : tokenizer.SpecialTokens.ContainsKey(documentToken) ? documentToken : null;
        return content is not null
            ? new PackingTokenizer(tokenizer, ReadJson(path, tokenizer), content)
            : throw new InvalidInputException(
                $"The tokenizer '{path}' has no special token {documentToken ?? Training.DocumentToken.Names}, with which every document begins; its special tokens are {SpecialTokens(tokenizer)}: name one with --document-token.");
    }

    /// <summary>Encodes a text and appends its tokens, the document token first, as a shard keeps them.</summary>
    public PackedDocument Encode(ReadOnlySpan<byte> text, MemoryStream destination)
    {
        int[] ids = tokenizer.Encode(text, recogniseSpecialTokens: false);
        Append([DocumentToken], destination);
        Append(ids, destination);
        Span<byte> hash = stackalloc byte[SHA256.HashSizeInBytes];
        SHA256.HashData(text, hash);
        return new PackedDocument(ids.Length + 1, BinaryPrimitives.ReadUInt64LittleEndian(hash), text.Length);
    }

    private void Append(ReadOnlySpan<int> ids, MemoryStream destination)
    {
        int start = (int)destination.Length;
        destination.SetLength(start + ((long)ids.Length * BytesPerToken));
        Span<byte> bytes = destination.GetBuffer().AsSpan(start, ids.Length * BytesPerToken);
        if (BytesPerToken == sizeof(ushort))
        {
            Span<ushort> narrow = MemoryMarshal.Cast<byte, ushort>(bytes);
            for (int i = 0; i < ids.Length; i++)
            {
                narrow[i] = BitConverter.IsLittleEndian ? (ushort)ids[i] : BinaryPrimitives.ReverseEndianness((ushort)ids[i]);
            }
        }
        else
        {
            for (int i = 0; i < ids.Length; i++)
            {
                BinaryPrimitives.WriteInt32LittleEndian(bytes[(i * sizeof(int))..], ids[i]);
            }
        }

        destination.Position = destination.Length;
    }

    /// <summary>The file as it is, or what the two files of GPT-2 come to.</summary>
    private static byte[] ReadJson(string path, BytePairTokenizer tokenizer)
    {
        string file = Directory.Exists(path) ? Path.Combine(path, ModelFolder.TokenizerFile) : path;
        if (File.Exists(file))
        {
            return File.ReadAllBytes(file);
        }

        string temporary = Path.GetTempFileName();
        try
        {
            tokenizer.Save(temporary);
            return File.ReadAllBytes(temporary);
        }
        finally
        {
            File.Delete(temporary);
        }
    }

    private static string SpecialTokens(BytePairTokenizer tokenizer)
    {
        string listed = string.Join(", ", tokenizer.SpecialTokens.Keys.Take(20));
        return listed.Length == 0 ? "none" : listed;
    }
}
