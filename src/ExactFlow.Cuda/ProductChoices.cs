using System.Security.Cryptography;
using System.Text;
using ExactFlow.Tensors;

namespace ExactFlow.Cuda;

/// <summary>
/// Which algorithm was the fastest for a product when it was measured, kept on disk beside the compiled kernels. It is measured once on a machine and not once in
/// a process, because algorithms add in different orders, and equal runs have to give equal bits. So what cannot be kept is not measured either.
/// </summary>
/// <param name="folder">The folder of the choices; made at the first one.</param>
/// <param name="identity">Whatever else a choice depends on: the GPU's model and the library's version.</param>
internal sealed class ProductChoices(string folder, string identity)
{
    /// <summary>Environment variable that, when it is 0, leaves every choice to the library.</summary>
    public const string SwitchVariable = "EXACTFLOW_MEASURE_PRODUCTS";

    /// <summary>Operations from which on a product is measured; the measurement is coarse below, and time is lost elsewhere.</summary>
    private const double FewestOperations = 4e9;

    /// <summary>Whether products are measured in this process.</summary>
    private static readonly bool IsOn = Environment.GetEnvironmentVariable(SwitchVariable) != "0";

    /// <summary>Whether a choice is kept for products of these sizes.</summary>
    public static bool Takes(in CublasLtKey key) => IsOn && key.Operations >= FewestOperations;

    /// <summary>The kept choice, or null when there is none.</summary>
    public byte[]? Find(in CublasLtKey key) => HashedFile.TryRead(PathOf(key));

    /// <summary>Keeps a choice; false when the disk does not take it. When another process was faster its choice stays.</summary>
    /// <param name="key">The product.</param>
    /// <param name="choice">The bytes to keep, and afterwards those that are kept.</param>
    public bool TryKeep(in CublasLtKey key, ref byte[] choice)
    {
        if (Find(key) is { } kept)
        {
            choice = kept;
            return true;
        }

        try
        {
            HashedFile.Write(PathOf(key), choice);
            choice = Find(key) ?? choice;
            return true;
        }
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException or InvalidInputException)
        {
            return false;
        }
    }

    /// <summary>Forgets a choice that is of no use: the library does not take it.</summary>
    public void Forget(in CublasLtKey key)
    {
        try
        {
            File.Delete(PathOf(key));
        }
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException)
        {
            // It will be refused again.
        }
    }

    private string PathOf(in CublasLtKey key) => Path.Combine(folder, Convert.ToHexStringLower(SHA256.HashData(Encoding.UTF8.GetBytes($"{identity}\n{key.Identity}"))) + ".product");
}
