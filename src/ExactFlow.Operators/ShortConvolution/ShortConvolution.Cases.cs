using ExactFlow.Tensors;

namespace ExactFlow.Operators;

/// <summary>Cases of <see cref="ShortConvolution"/>.</summary>
public sealed class ShortConvolutionCases : IOperatorCases
{
    /// <inheritdoc/>
    public static IEnumerable<OperatorCase> Cases =>
    [
        Of("one token, one channel", [1, 1, 1]),
        Of("shorter than the filter", [2, 3, 5]),
        Of("odd sizes", [3, 7, 63]),
        Of("65 channels, more tokens than a tile", [2, 133, 65]),
        Of("more channels than a cached piece", [1, 9, 700]),
        Of("more channels than a block", [1, 6, 4200]),
        Of("no tokens", [2, 0, 3]),
        Of("no batch", [0, 4, 3]),
        Of("width 1", [2, 7, 33], width: 1),
        Of("width 2", [2, 7, 33], width: 2),
        Of("width 3 with bias", [2, 70, 33], width: 3, bias: true),
        Of("width 7", [2, 70, 9], width: 7),
        Of("wider than the sequence", [2, 5, 9], width: 12, bias: true),
        Of("bias", [2, 65, 100], bias: true),
        Of("128 channels, runs side by side", [5, 70, 128], bias: true),
        Of("128 channels without SiLU", [2, 35, 128], silu: false),
        Of("bias without SiLU", [2, 65, 100], bias: true, silu: false),
        Of("without SiLU", [2, 65, 31], silu: false),
        Of("large values", [1, 65, 31], scale: 1e3),
        Of("documents", [1, 100, 33], bias: true, offsets: [0, 1, 1, 3, 40, 42, 100]),
        Of("documents across tiles", [1, 300, 17], offsets: [0, 0, 63, 64, 65, 129, 200, 300, 300]),
        Of("documents of one token", [1, 7, 5], offsets: [0, 1, 2, 3, 4, 5, 6, 7]),
        Carried("one token", [2, 1, 33]),
        Carried("two tokens", [3, 2, 7]),
        Carried("many tokens and a bias", [2, 77, 65], bias: true),
        Carried("nothing", [2, 0, 65]),
        Carried("width 2", [2, 9, 5], width: 2),
        Carried("width 1", [2, 9, 5], width: 1),
        Carried("documents", [1, 20, 9], offsets: [0, 1, 1, 3, 20]),
        Normalized("heads of 64", [2, 70, 128], 64),
        Normalized("heads of 128", [3, 133, 256], 128, bias: true),
        Normalized("heads of 128 without SiLU", [1, 9, 128], 128, silu: false),
        Normalized("heads of 64, documents", [1, 100, 128], 64, offsets: [0, 1, 1, 3, 40, 42, 100]),
        Normalized("heads of 128, documents", [1, 130, 128], 128, offsets: [0, 0, 63, 64, 65, 129, 130]),
        Normalized("heads of 64, no whole warps", [2, 9, 192], 64),
        Normalized("odd heads", [2, 9, 35], 7),
        Normalized("no tokens", [2, 0, 128], 64),
        Of("q, k or v of a 340M model", [1, 2048, 1024]) with { IsBenchmark = true, ForwardBytes = 2.0 * 4 * 2048 * 1024, BackwardBytes = 3.0 * 4 * 2048 * 1024, ForwardFlops = 28.0 * 2048 * 1024 },
        Of("q, k and v together", [4, 512, 3072]) with { IsBenchmark = true, ForwardBytes = 2.0 * 4 * 2048 * 3072, BackwardBytes = 3.0 * 4 * 2048 * 3072, ForwardFlops = 28.0 * 2048 * 3072 },
    ];

    private static OperatorCase Of(
        string name, Shape shape, int width = 4, bool bias = false, bool silu = true, double scale = 1, int[]? offsets = null)
    {
        SequenceOffsets? documents = offsets is null ? null : new SequenceOffsets(offsets);
        int[] sequences = offsets ?? Rows(shape);
        CaseInput[] inputs = [new("x", shape, Scale: scale), new("weight", [shape[2], width], Scale: 0.5), new("bias", [shape[2]])];
        return new(
            "ShortConvolution",
            name,
            bias ? inputs : inputs[..2],
            tensors => [ShortConvolution.Apply(tensors[0], tensors[1], bias ? tensors[2] : null, silu, state: null, documents)],
            values => [ShortConvolution.Reference(values[0], values[1], bias ? values[2] : null, silu, null, sequences, shape[2])],
            (values, gradients) =>
            {
                (double[] x, double[] weight, double[] biasGradient) = ShortConvolution.ReferenceGradient(
                    values[0], values[1], bias ? values[2] : null, silu, sequences, shape[2], gradients[0]);
                return bias ? [x, weight, biasGradient] : [x, weight];
            })
        {
            // The offsets of documents are copied to a GPU in the call.
            CanBeCaptured = offsets is null,
            // z is a sum of `width` terms that may cancel.
            ForwardTolerance = 5e-7,
            GradientTolerance = 1e-6,
        };
    }

    /// <summary>With heads scaled to unit length.</summary>
    private static OperatorCase Normalized(string name, Shape shape, int headDim, bool bias = false, bool silu = true, int[]? offsets = null)
    {
        OperatorCase plain = Of($"unit length, {name}", shape, bias: bias, silu: silu, offsets: offsets);
        SequenceOffsets? documents = offsets is null ? null : new SequenceOffsets(offsets);
        const float Epsilon = 1e-6f;
        return plain with
        {
            Run = tensors => [ShortConvolution.ApplyNormalized(tensors[0], tensors[1], headDim, bias ? tensors[2] : null, silu, Epsilon, state: null, documents)],
            Reference = values => [L2Norm.Reference(plain.Reference(values)[0], headDim, Epsilon)],
            ReferenceGradient = (values, gradients)
                => plain.ReferenceGradient(values, [L2Norm.ReferenceGradient(plain.Reference(values)[0], headDim, Epsilon, gradients[0])]),
            ForwardTolerance = 1e-6,
            GradientTolerance = 3e-6,
        };
    }

    /// <summary>With a carried state, which is the second output and has no gradient.</summary>
    private static OperatorCase Carried(string name, Shape shape, int width = 4, bool bias = false, int[]? offsets = null)
    {
        SequenceOffsets? documents = offsets is null ? null : new SequenceOffsets(offsets);
        int[] sequences = offsets ?? Rows(shape);
        CaseInput[] inputs =
        [
            new("x", shape) { Differentiable = false },
            new("weight", [shape[2], width], Scale: 0.5) { Differentiable = false },
            new("state", [sequences.Length - 1, shape[2], width - 1]) { Differentiable = false },
            new("bias", [shape[2]]) { Differentiable = false },
        ];
        return new(
            "ShortConvolution",
            $"carried state, {name}",
            bias ? inputs : inputs[..3],
            tensors =>
            {
                Tensor state = tensors[2].Device.Empty(tensors[2].Shape);
                state.CopyFrom(tensors[2]);
                return [ShortConvolution.Apply(tensors[0], tensors[1], bias ? tensors[3] : null, silu: true, state, documents), state];
            },
            values =>
            [
                ShortConvolution.Reference(values[0], values[1], bias ? values[3] : null, silu: true, values[2], sequences, shape[2]),
                ShortConvolution.ReferenceState(values[0], values[2], sequences, shape[2], width),
            ],
            (values, _) => new double[]?[values.Count])
        {
            CanBeCaptured = offsets is null,
            ForwardTolerance = 5e-7,
        };
    }

    /// <summary>Offsets of batch rows seen as sequences one after the other.</summary>
    private static int[] Rows(Shape shape) => [.. Enumerable.Range(0, shape[0] + 1).Select(row => row * shape[1])];
}
