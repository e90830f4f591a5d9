using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;
using ExactFlow.Tensors.Parallel;

namespace ExactFlow.Tensors.Simd;

/// <summary>
/// The vector width this process uses, decided once. It is what the processor has (as the runtime reports it: <c>DOTNET_EnableAVX512=0</c>
/// and <c>DOTNET_EnableAVX2=0</c> lower it), unless the environment variable <c>EXACTFLOW_SIMD=scalar|128|256|512</c> asks for less.
/// </summary>
/// <remarks>
/// <c>Vector512.IsHardwareAccelerated</c> is not consulted: the runtime reports false on processors that have AVX-512 but may lower their clock when using it.
/// </remarks>
public static class Simd
{
    /// <summary>The environment variable that asks for a level.</summary>
    public const string EnvironmentVariable = "EXACTFLOW_SIMD";

    private static readonly (SimdLevel Level, string? Complaint) Decision = Decide(Environment.GetEnvironmentVariable(EnvironmentVariable), Available);

    // A copy of its own: the JIT folds a read-only field of a primitive type into the code that switches on it.
    private static readonly SimdLevel Chosen = Decision.Level;
    private static readonly bool IsRefused = Decision.Complaint is not null;

    /// <summary>The widest level of this processor, as far as the runtime may use it.</summary>
    public static SimdLevel Available
        => Avx512F.IsSupported && Avx512BW.IsSupported && Avx512DQ.IsSupported && Avx512F.VL.IsSupported ? SimdLevel.V512
            : Avx2.IsSupported && Fma.IsSupported ? SimdLevel.V256
            : Vector128.IsHardwareAccelerated ? SimdLevel.V128
            : SimdLevel.Scalar;

    /// <summary>The level that <see cref="Run{TAction}"/> and <see cref="For{TBody}"/> use.</summary>
    /// <exception cref="InvalidInputException"><c>EXACTFLOW_SIMD</c> names no level, or one above <see cref="Available"/>.</exception>
    public static SimdLevel Level
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        get => IsRefused ? throw new InvalidInputException(Decision.Complaint!) : Chosen;
    }

    /// <summary>Floats per vector at <see cref="Level"/>.</summary>
    public static int Width => Level switch
    {
        SimdLevel.V512 => V512.Count,
        SimdLevel.V256 => V256.Count,
        SimdLevel.V128 => V128.Count,
        _ => V1.Count,
    };

    /// <summary>Runs <paramref name="action"/> with the vectors of <see cref="Level"/>.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Run<TAction>(TAction action)
        where TAction : struct, IVectorAction
    {
        switch (Level)
        {
            case SimdLevel.V512:
                action.Run<V512>();
                break;
            case SimdLevel.V256:
                action.Run<V256>();
                break;
            case SimdLevel.V128:
                action.Run<V128>();
                break;
            default:
                action.Run<V1>();
                break;
        }
    }

    /// <summary>Runs <paramref name="body"/> for every index in [0, <paramref name="iterations"/>) over the workers, with the vectors of <see cref="Level"/>.</summary>
    public static void For<TBody>(WorkerPool workers, int iterations, TBody body)
        where TBody : struct, IVectorBody
    {
        ArgumentNullException.ThrowIfNull(workers);
        switch (Level)
        {
            case SimdLevel.V512:
                workers.For(iterations, new Widened<V512, TBody>(body));
                break;
            case SimdLevel.V256:
                workers.For(iterations, new Widened<V256, TBody>(body));
                break;
            case SimdLevel.V128:
                workers.For(iterations, new Widened<V128, TBody>(body));
                break;
            default:
                workers.For(iterations, new Widened<V1, TBody>(body));
                break;
        }
    }

    /// <summary>The level for a request (the value of <see cref="EnvironmentVariable"/>) on a processor, or what is wrong with it.</summary>
    internal static (SimdLevel Level, string? Complaint) Decide(string? request, SimdLevel available)
    {
        if (string.IsNullOrEmpty(request))
        {
            return (available, null);
        }

        SimdLevel? asked = request switch
        {
            "scalar" => SimdLevel.Scalar,
            "128" => SimdLevel.V128,
            "256" => SimdLevel.V256,
            "512" => SimdLevel.V512,
            _ => null,
        };
        return asked switch
        {
            null => (available, $"The SIMD level was read from {EnvironmentVariable}, which must be scalar, 128, 256 or 512, but is \"{request}\": correct or unset it."),
            { } level when level > available
                => (available, $"{EnvironmentVariable}={request} asks for vectors that this processor or the DOTNET_Enable* settings do not offer (the widest here: {Name(available)}): ask for that or less, or unset it."),
            { } level => (level, null),
        };
    }

    /// <summary>The level as written in <see cref="EnvironmentVariable"/>.</summary>
    public static string Name(SimdLevel level) => level switch
    {
        SimdLevel.V512 => "512",
        SimdLevel.V256 => "256",
        SimdLevel.V128 => "128",
        _ => "scalar",
    };

    private readonly struct Widened<TV, TBody>(TBody body) : IParallelBody
        where TV : struct, IFloatVector<TV>
        where TBody : struct, IVectorBody
    {
        private readonly TBody body = body;

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public void Run(int index, int worker) => body.Run<TV>(index, worker);
    }
}
