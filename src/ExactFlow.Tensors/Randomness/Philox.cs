using System.Runtime.CompilerServices;

namespace ExactFlow.Tensors.Randomness;

/// <summary>
/// Counter-based random numbers: Philox4x32-10 (Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3", SC 2011).
/// The value at a position depends on (seed, stream, position) only, so resuming, reordering and splitting work over threads change nothing.
/// </summary>
/// <param name="seed">The seed of the run.</param>
/// <param name="stream">What the numbers are for: different streams are independent.</param>
public readonly struct Philox(ulong seed, ulong stream)
{
    private const uint Multiplier0 = 0xD2511F53;
    private const uint Multiplier1 = 0xCD9E8D57;
    private const uint Weyl0 = 0x9E3779B9;
    private const uint Weyl1 = 0xBB67AE85;

    /// <summary>The four 32-bit words of a counter block under a key: the function itself, ten rounds.</summary>
    public static (uint Word0, uint Word1, uint Word2, uint Word3) Block(uint counter0, uint counter1, uint counter2, uint counter3, uint key0, uint key1)
    {
        for (int round = 0; round < 10; round++)
        {
            ulong product0 = (ulong)Multiplier0 * counter0;
            ulong product1 = (ulong)Multiplier1 * counter2;
            (counter0, counter1, counter2, counter3) = (
                (uint)(product1 >> 32) ^ counter1 ^ key0,
                (uint)product1,
                (uint)(product0 >> 32) ^ counter3 ^ key1,
                (uint)product0);
            key0 += Weyl0;
            key1 += Weyl1;
        }

        return (counter0, counter1, counter2, counter3);
    }

    /// <summary>A stream for a name, so that parameters keep their values when others are added: FNV-1a of the name.</summary>
    public static ulong StreamOf(string name)
    {
        ArgumentNullException.ThrowIfNull(name);
        ulong hash = 14695981039346656037;
        foreach (char character in name)
        {
            hash = (hash ^ character) * 1099511628211;
        }

        return hash;
    }

    /// <summary>64 random bits at a position.</summary>
    public ulong Bits(ulong position)
    {
        (uint low, uint high, _, _) = At(position);
        return ((ulong)high << 32) | low;
    }

    /// <summary>A uniform number in [0, 1) with 53 random bits.</summary>
    public double Uniform(ulong position) => (Bits(position) >> 11) * (1.0 / (1UL << 53));

    /// <summary>A uniform number in [low, high).</summary>
    public double Uniform(ulong position, double low, double high) => low + ((high - low) * Uniform(position));

    /// <summary>A standard normal number (Box-Muller on two 53-bit uniforms).</summary>
    public double Normal(ulong position)
    {
        (uint word0, uint word1, uint word2, uint word3) = At(position);
        double radius = ((((ulong)word1 << 32) | word0) >> 11) + 1;
        double angle = (((ulong)word3 << 32) | word2) >> 11;
        const double Unit = 1.0 / (1UL << 53);
        return Math.Sqrt(-2 * Math.Log(radius * Unit)) * Math.Cos(2 * Math.PI * angle * Unit);
    }

    /// <summary>A uniform integer in [0, <paramref name="exclusiveMax"/>), without the bias of a remainder beyond 2^-32.</summary>
    public int Below(ulong position, int exclusiveMax) => (int)Math.BigMul(Bits(position), (ulong)exclusiveMax, out _);

    /// <summary>Fills with normal numbers of the given standard deviation, positions from 0.</summary>
    public void FillNormal(Span<float> destination, double standardDeviation)
    {
        for (int i = 0; i < destination.Length; i++)
        {
            destination[i] = (float)(standardDeviation * Normal((ulong)i));
        }
    }

    /// <summary>Fills with uniform numbers in [low, high), positions from 0.</summary>
    public void FillUniform(Span<float> destination, double low, double high)
    {
        for (int i = 0; i < destination.Length; i++)
        {
            destination[i] = (float)Uniform((ulong)i, low, high);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private (uint Word0, uint Word1, uint Word2, uint Word3) At(ulong position)
        => Block((uint)position, (uint)(position >> 32), (uint)stream, (uint)(stream >> 32), (uint)seed, (uint)(seed >> 32));
}
