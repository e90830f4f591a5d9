using ExactFlow.Tensors;
using ExactFlow.Tensors.Autograd;

namespace ExactFlow.Operators.Tests;

/// <summary>Arguments that do not fit: the sentence names the operator, the argument and both shapes, and nothing is computed.</summary>
public sealed class ArgumentTests
{
    private delegate Tensor Call(CpuDevice device);

    public static TheoryData<string> Names => new(Calls.Keys);

    /// <summary>What is called, and the words that its error must hold.</summary>
    private static readonly Dictionary<string, (Call Call, string[] Words)> Calls = new()
    {
        ["Add, shapes"] = (d => Elementwise.Add(Floats(d, 2, 3), Floats(d, 3, 2)), ["Elementwise.Add", "a is [2, 3]", "b is [3, 2]"]),
        ["Multiply, shapes"] = (d => Elementwise.Multiply(Floats(d, 6), Floats(d, 3, 2)), ["Elementwise.Multiply", "[6]", "[3, 2]"]),
        ["AddRow, length"] = (d => Elementwise.AddRow(Floats(d, 2, 3), Floats(d, 2)), ["Elementwise.AddRow", "[2, 3]", "row of shape [3]", "shape [2]"]),
        ["AddRow, rank"] = (d => Elementwise.AddRow(Floats(d, 2, 3), Floats(d, 1, 3)), ["Elementwise.AddRow", "shape [1, 3]"]),
        ["Silu, dtype"] = (d => Elementwise.Silu(Integers(d, 4)), ["Elementwise.Silu", "Float32", "Int32"]),
        ["Scale, dtype"] = (d => Elementwise.Scale(Integers(d, 4), 2), ["Elementwise.Scale", "Int32"]),
        ["RmsNorm, weight"] = (d => RmsNorm.Apply(Floats(d, 2, 5), Floats(d, 4)), ["RmsNorm", "x [2, 5]", "weight of shape [5]", "shape [4]"]),
        ["RmsNorm, scalar"] = (d => RmsNorm.Apply(Floats(d), Floats(d, 1)), ["RmsNorm", "last dimension", "shape []"]),
        ["RmsNorm, empty rows"] = (d => RmsNorm.Apply(Floats(d, 3, 0), Floats(d, 0)), ["RmsNorm", "not empty", "[3, 0]"]),
        ["RmsNorm, epsilon"] = (d => RmsNorm.Apply(Floats(d, 2), Floats(d, 2), -1), ["RmsNorm", "epsilon", "-1"]),
        ["RmsNorm, NaN epsilon"] = (d => RmsNorm.Apply(Floats(d, 2), Floats(d, 2), float.NaN), ["RmsNorm", "epsilon", "NaN"]),
        ["GatedRmsNorm, gate"] = (
            d => GatedRmsNorm.Apply(Floats(d, 2, 5), Floats(d, 2, 4), Floats(d, 5), GatePlacement.AfterNorm),
            ["GatedRmsNorm", "x is [2, 5]", "gate is [2, 4]"]),
        ["GatedRmsNorm, weight"] = (
            d => GatedRmsNorm.Apply(Floats(d, 2, 5), Floats(d, 2, 5), Floats(d, 2), GatePlacement.BeforeNorm),
            ["GatedRmsNorm", "weight of shape [5]", "shape [2]"]),
        ["LayerNorm, bias"] = (d => LayerNorm.Apply(Floats(d, 2, 5), Floats(d, 5), Floats(d, 6)), ["LayerNorm", "bias of shape [5]", "shape [6]"]),
        ["L2Norm, epsilon"] = (d => L2Norm.Apply(Floats(d, 2, 5), float.PositiveInfinity), ["L2Norm", "epsilon"]),
        ["SwiGlu, shapes"] = (d => SwiGlu.Apply(Floats(d, 2, 5), Floats(d, 2, 6)), ["SwiGlu", "gate is [2, 5]", "up is [2, 6]"]),
        ["Split, sum"] = (d => Split.Apply(Floats(d, 2, 5), [2, 2])[0], ["Split", "[2, 5]", "[2, 2]", "sum 4"]),
        ["Split, zero"] = (d => Split.Apply(Floats(d, 2, 5), [5, 0])[0], ["Split", "positive", "[5, 0]"]),
        ["Split, none"] = (d => Split.Apply(Floats(d, 2, 5), [])[0], ["Split", "[2, 5]", "sum 0"]),
        ["LogDecay, heads"] = (d => LogDecay.Apply(Floats(d, 1, 3, 4), Floats(d, 3), Floats(d, 4)), ["LogDecay", "aLog of shape [4]", "shape [3]"]),
        ["Embedding, id"] = (d => Embedding.Apply(Integers(d, 0, 7, 2), Floats(d, 5, 3)), ["Embedding", "id 7", "position 1", "rows 0 to 4"]),
        ["Embedding, negative id"] = (d => Embedding.Apply(Integers(d, -1), Floats(d, 5, 3)), ["Embedding", "id -1", "position 0"]),
        ["Embedding, ids"] = (d => Embedding.Apply(Floats(d, 3), Floats(d, 5, 3)), ["Embedding", "ids", "Int32", "Float32"]),
        ["Embedding, table"] = (d => Embedding.Apply(Integers(d, 0), Floats(d, 5)), ["Embedding", "table", "[5]"]),
        ["Embedding, table rank"] = (d => Embedding.Apply(Integers(d, 0), Floats(d, 5, 1, 1)), ["Embedding", "[vocab, dim]", "[5, 1, 1]"]),
        ["ShortConvolution, rank"] = (d => ShortConvolution.Apply(Floats(d, 2, 5), Floats(d, 5, 4)), ["ShortConvolution", "[batch, time, channels]", "[2, 5]"]),
        ["ShortConvolution, weight"] = (d => ShortConvolution.Apply(Floats(d, 1, 2, 5), Floats(d, 4, 5)), ["ShortConvolution", "[5, width]", "[4, 5]"]),
        ["ShortConvolution, bias"] = (d => ShortConvolution.Apply(Floats(d, 1, 2, 5), Floats(d, 5, 4), Floats(d, 4)), ["ShortConvolution", "bias of shape [5]", "[4]"]),
        ["ShortConvolution, state"] = (
            d => ShortConvolution.Apply(Floats(d, 1, 2, 5), Floats(d, 5, 4), state: Floats(d, 1, 3, 5)),
            ["ShortConvolution", "[1, 5, 3]", "[1, 3, 5]"]),
        ["ShortConvolution, offsets"] = (
            d => ShortConvolution.Apply(Floats(d, 1, 2, 5), Floats(d, 5, 4), offsets: new SequenceOffsets([0, 3])),
            ["ShortConvolution", "[1, 3, channels]", "[1, 2, 5]"]),
        ["ShortConvolution, heads"] = (
            d => ShortConvolution.ApplyNormalized(Floats(d, 2, 3, 5), Floats(d, 5, 4), headDim: 2),
            ["ShortConvolution", "[2, 3, 5]", "5 channels", "it is 2"]),
        ["ShortConvolution, packed batch"] = (
            d => ShortConvolution.Apply(Floats(d, 2, 3, 5), Floats(d, 5, 4), offsets: new SequenceOffsets([0, 3])),
            ["ShortConvolution", "[1, 3, channels]", "[2, 3, 5]"]),
    };

    [Theory]
    [MemberData(nameof(Names))]
    public void IsRefusedWithASentence(string name)
    {
        (Call call, string[] words) = Calls[name];
        using var device = new CpuDevice(1);
        using (Step step = device.BeginStep())
        {
            InvalidInputException error = Assert.Throws<InvalidInputException>(() => call(device));
            Assert.All(words, word => Assert.Contains(word, error.Message, StringComparison.Ordinal));
            Assert.EndsWith(".", error.Message, StringComparison.Ordinal);
            Assert.DoesNotContain('\n', error.Message);
        }

        Assert.Equal(0, device.Pool.RentedBlocks);
    }

    [Fact]
    public void TensorsOfTwoDevicesAreRefused()
    {
        using var first = new CpuDevice(1);
        using var second = new CpuDevice(1);
        using Step here = first.BeginStep();
        using Step there = second.BeginStep();

        InvalidInputException error = Assert.Throws<InvalidInputException>(() => Elementwise.Add(Floats(first, 2), Floats(second, 2)));

        Assert.Contains("one device", error.Message, StringComparison.Ordinal);
    }

    private static Tensor Floats(CpuDevice device, params int[] shape) => device.Zeros(Shape.Of(shape));

    private static Tensor Integers(CpuDevice device, params int[] values) => device.From<int>(values, [values.Length]);
}
