namespace ExactFlow.Tensors.Simd;

/// <summary>The vector widths a kernel can run at, narrowest first: each is one struct implementing <see cref="IFloatVector{TSelf}"/>.</summary>
public enum SimdLevel
{
    /// <summary>One float at a time (<see cref="V1"/>).</summary>
    Scalar,

    /// <summary>Four floats (<see cref="V128"/>): SSE2 or NEON.</summary>
    V128,

    /// <summary>Eight floats (<see cref="V256"/>): AVX2 with FMA.</summary>
    V256,

    /// <summary>Sixteen floats (<see cref="V512"/>): AVX-512 F, BW, DQ and VL.</summary>
    V512,
}
