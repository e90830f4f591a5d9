using ExactFlow.Operators;
using ExactFlow.Tensors;
using ExactFlow.Tensors.Files;
using ExactFlow.Tensors.Randomness;

namespace ExactFlow.Training.Host;

/// <summary>A model small enough to be trained, killed and resumed many times in a test: embedding, RMSNorm, a matrix, residual, output head.</summary>
public sealed class TinyTask : ITrainingTask, IDisposable
{
    public const int Vocabulary = 61;
    private const int Width = 24;
    private readonly Parameter embedding;
    private readonly Parameter norm;
    private readonly Parameter matrix;
    private readonly Parameter head;
    private readonly TokenStream validation;
    private int calls;

    public TinyTask(Device device, int seed, int sequenceLength)
    {
        Device = device;
        embedding = Normal("embedding", [Vocabulary, Width], seed);
        norm = new Parameter("norm", device.Persistent([Width]), weightDecay: false);
        norm.Value.CopyFrom<float>([.. Enumerable.Repeat(1f, Width)]);
        matrix = Normal("matrix", [Width, Width], seed);
        head = Normal("head", [Vocabulary, Width], seed);
        Parameters = [embedding, norm, matrix, head];
        validation = new TokenStream(Text(1_000, 77), sequenceLength, 0);
    }

    public Device Device { get; }

    public IReadOnlyList<Parameter> Parameters { get; }

    /// <summary>Calls of <see cref="Loss"/>, counted from 1, whose loss is to be NaN.</summary>
    public Func<int, bool> LossIsNaN { get; set; } = _ => false;

    /// <summary>Calls of <see cref="Loss"/>, counted from 1, whose gradient is to be infinite though the loss is not.</summary>
    public Func<int, bool> GradientIsInfinite { get; set; } = _ => false;

    /// <summary>A text with something to learn: each token mostly follows from the one before.</summary>
    public static int[] Text(int length, int seed)
    {
        var random = new Philox((ulong)seed, 5);
        int[] tokens = new int[length];
        for (int i = 1; i < length; i++)
        {
            tokens[i] = random.Uniform((ulong)i) < 0.8 ? ((tokens[i - 1] * 7) + 3) % Vocabulary : random.Below((ulong)i + 1_000_000, Vocabulary);
        }

        return tokens;
    }

    public Tensor Loss(Tensor inputs, Tensor targets)
    {
        calls++;
        Tensor hidden = Hidden(inputs);
        if (LossIsNaN(calls))
        {
            hidden = Elementwise.Scale(hidden, float.NaN);
        }

        if (GradientIsInfinite(calls))
        {
            hidden = WithInfiniteGradient(hidden);
        }

        return CrossEntropy.Apply(hidden, head.Value, targets);
    }

    public double FlopsPerToken(int sequenceLength) => 6.0 * ((Width * Width) + (Vocabulary * Width));

    public ValidationResult Validate()
    {
        const int Windows = 4;
        int[] inputs = new int[Windows * validation.SequenceLength];
        int[] targets = new int[inputs.Length];
        validation.ReadFixed(0, Windows, inputs, targets);
        using var step = Device.BeginStep(recordGradients: false);
        Shape shape = [Windows, validation.SequenceLength];
        float loss = CrossEntropy.Apply(Hidden(Device.From<int>(inputs, shape)), head.Value, Device.From<int>(targets, shape)).Item();
        return new ValidationResult(loss, loss / Math.Log(2));
    }

    public SampleText? Sample(int step) => new("prompt", $"sample after {step} with weight {matrix.Value.ToHost<float>()[0]:R}");

    public void SaveModel(string folder)
    {
        using var writer = new SafetensorsWriter(
            Path.Combine(folder, "model.safetensors"),
            Parameters.Select(parameter => new SafetensorsEntry(parameter.Name, SafetensorsType.F32, [parameter.Value.Count])));
        foreach (Parameter parameter in Parameters)
        {
            writer.Write(parameter.Name, parameter.Value);
        }

        writer.Commit();
    }

    public void LoadModel(string folder)
    {
        using SafetensorsFile file = SafetensorsFile.Open(Path.Combine(folder, "model.safetensors"));
        foreach (Parameter parameter in Parameters)
        {
            file.Read(file[parameter.Name], parameter.Value);
        }
    }

    public void Dispose()
    {
        foreach (Parameter parameter in Parameters)
        {
            parameter.Dispose();
        }
    }

    private static Tensor WithInfiniteGradient(Tensor hidden)
    {
        Tensor copy = hidden.Device.Empty(hidden.Shape);
        copy.CopyFrom(hidden);
        hidden.Device.CurrentStep!.Tape.Record(copy, () => hidden.GradForWrite(out _).Span<float>().Fill(float.PositiveInfinity));
        return copy;
    }

    private Tensor Hidden(Tensor inputs)
    {
        Tensor x = Embedding.Apply(inputs, embedding.Value);
        return Elementwise.Add(x, Elementwise.Silu(Linear.Apply(RmsNorm.Apply(x, norm.Value), matrix.Value)));
    }

    private Parameter Normal(string name, Shape shape, int seed)
    {
        var values = new float[shape.Count];
        new Philox((ulong)seed, Philox.StreamOf(name)).FillNormal(values, 0.2);
        Tensor value = Device.Persistent(shape);
        value.CopyFrom<float>(values);
        return new Parameter(name, value, weightDecay: true);
    }
}
