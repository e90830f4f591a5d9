using ExactFlow.Tensors.Simd;

namespace ExactFlow.Testing;

/// <summary>A way to make a child process run at a vector width: variables for its environment and the level they must lead to.</summary>
/// <param name="Variable">The environment variable.</param>
/// <param name="Value">Its value.</param>
/// <param name="Expected">The level that the child must report.</param>
public sealed record SimdSetting(string Variable, string Value, SimdLevel Expected)
{
    /// <summary>
    /// The settings that mean something on this machine: our own variable for each level below the widest, and the runtime's switches, which
    /// also take away fused multiply-add. The last one makes <c>Vector512.IsHardwareAccelerated</c> false while AVX-512 stays usable.
    /// </summary>
    public static IReadOnlyList<SimdSetting> ForThisMachine { get; } =
    [
        .. Enum.GetValues<SimdLevel>().Where(level => level < Simd.Available).Select(level => new SimdSetting(Simd.EnvironmentVariable, Simd.Name(level), level)),
        .. Simd.Available >= SimdLevel.V512 ? [new SimdSetting("DOTNET_EnableAVX512", "0", SimdLevel.V256)] : Array.Empty<SimdSetting>(),
        .. Simd.Available >= SimdLevel.V256 ? [new SimdSetting("DOTNET_EnableAVX2", "0", SimdLevel.V128)] : Array.Empty<SimdSetting>(),
        .. Simd.Available >= SimdLevel.V512 ? [new SimdSetting("DOTNET_PreferredVectorBitWidth", "256", SimdLevel.V512)] : Array.Empty<SimdSetting>(),
    ];

    /// <inheritdoc/>
    public override string ToString() => $"{Variable}={Value}";
}
