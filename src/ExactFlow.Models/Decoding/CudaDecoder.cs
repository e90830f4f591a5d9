using System.Runtime.InteropServices;
using ExactFlow.Cuda;
using ExactFlow.Operators;
using ExactFlow.Tensors;
using ExactFlow.Tensors.Randomness;

namespace ExactFlow.Models.Decoding;

/// <summary>
/// Decodes on a GPU: from the logits after a prompt on, every token is drawn, looked up and read on the device, as one graph that is replayed, so that the host
/// may queue as many tokens as it likes and fetch them later. Models of the delta family in bfloat16 run through fused kernels, all others through the ordinary
/// operators; only softmax attention, whose work grows, is queued operator by operator.
/// </summary>
public sealed class CudaDecoder : IDisposable
{
    private readonly CudaDevice device;
    private readonly DecodePass pass;
    private readonly DecodeSampleOptions options;
    private readonly DecodeSampleMemory memory;
    private readonly CudaReadback readback;
    private readonly List<IDisposable> owned = [];
    private CudaGraph? graph;
    private bool isWarm;

    /// <summary>Prepares decoding of a state's sequences.</summary>
    /// <param name="model">A model on a GPU; its weights must not change as long as the decoder lives.</param>
    /// <param name="state">The state to carry on, in place.</param>
    /// <param name="sampling">How tokens are drawn: the same as <see cref="Sampler"/> draws from the same logits.</param>
    /// <param name="useFusedKernels">False to go through the ordinary operators in any case.</param>
    /// <exception cref="InvalidInputException">The model is not on a GPU, or an option is out of range.</exception>
    public CudaDecoder(LanguageModel model, ModelState state, SamplerOptions sampling, bool useFusedKernels = true)
    {
        ArgumentNullException.ThrowIfNull(model);
        ArgumentNullException.ThrowIfNull(state);
        ArgumentNullException.ThrowIfNull(sampling);
        device = model.Device as CudaDevice ?? throw new InvalidInputException($"A decoder for GPUs was made for a model on {model.Device.Name}: use --device cuda.");
        options = OptionsOf(sampling.Validate());
        Sequences = state.Sequences;
        try
        {
            pass = Own<DecodePass>(useFusedKernels && FusedPass.Covers(model, state.Sequences) ? new FusedPass(model, state) : new OrdinaryPass(model, state));
            memory = Own(new DecodeSampleMemory(device, Sequences, model.Config.VocabularySize, options));
            Logits = Own(device.Persistent([Sequences, model.Config.VocabularySize]));
            readback = Own(new CudaReadback(device, Sequences * sizeof(int)));
        }
        catch
        {
            Dispose();
            throw;
        }
    }

    /// <summary>Sequences decoded together.</summary>
    public int Sequences { get; }

    /// <summary>The logits that the next tokens are drawn from, float32 [sequences, vocabulary]: to be filled with those after the prompts.</summary>
    public Tensor Logits { get; }

    /// <summary>Marks tokens as seen, for the repetition penalty: the prompt. Drawn tokens are marked by themselves.</summary>
    /// <param name="tokens">The tokens of every sequence.</param>
    public void Observe(IReadOnlyList<IReadOnlyList<int>> tokens)
    {
        ArgumentNullException.ThrowIfNull(tokens);
        if (memory.Seen is null)
        {
            return;
        }

        var seen = new int[memory.Seen.Count];
        Span<byte> bytes = MemoryMarshal.AsBytes(seen.AsSpan());
        int rowBytes = memory.Seen.Shape[1] * sizeof(int);
        for (int i = 0; i < tokens.Count; i++)
        {
            foreach (int token in tokens[i])
            {
                bytes[(i * rowBytes) + token] = 1;
            }
        }

        memory.Seen.CopyFrom<int>(seen);
    }

    /// <summary>Queues drawing the first tokens from <see cref="Logits"/>.</summary>
    public void Draw() => DecodeSample.Run(device, options, Logits, memory, pass.Embedding);

    /// <summary>Begins with tokens that are known, one per sequence, instead of drawing them.</summary>
    public void Begin(ReadOnlySpan<int> tokens)
    {
        memory.Ids.CopyFrom(tokens);
        memory.Tokens.CopyFrom(tokens);
        if (pass.Embedding is { } embedding)
        {
            DecodeSample.Begin(device, memory, embedding);
        }
    }

    /// <summary>Queues reading the tokens drawn last and drawing the next ones. Nothing waits, neither the host nor the device.</summary>
    public void Advance()
    {
        if (graph is null)
        {
            QueueOrCapture();
        }

        graph?.Launch();
    }

    /// <summary>Queues a copy of the tokens drawn last to the host; at most two may be under way.</summary>
    public void Send() => readback.Queue(memory.Tokens.Address);

    /// <summary>Waits for the oldest tokens sent and not received, one per sequence. Work queued behind them goes on.</summary>
    /// <param name="tokens">Receives them.</param>
    public void Receive(Span<int> tokens) => MemoryMarshal.Cast<byte, int>(readback.Read()).CopyTo(tokens);

    /// <summary>The token itself.</summary>
    /// <exception cref="InvalidInputException">It stands for logits from which none could be drawn.</exception>
    internal static int Check(int token) => token switch
    {
        DecodeSample.NotANumber => throw new InvalidInputException("A token was to be drawn, but the model's logits contain NaN or infinity: its weights are damaged or its training diverged."),
        DecodeSample.AllImpossible => throw new InvalidInputException("A token was to be drawn, but every logit is negative infinity: no token is possible."),
        _ => token,
    };

    /// <inheritdoc/>
    public void Dispose()
    {
        graph?.Dispose();
        graph = null;
        foreach (IDisposable resource in owned)
        {
            resource.Dispose();
        }

        owned.Clear();
    }

    private static DecodeSampleOptions OptionsOf(SamplerOptions sampling) => new()
    {
        Temperature = sampling.Temperature,
        TopK = sampling.TopK,
        TopP = sampling.TopP,
        MinP = sampling.MinP,
        RepetitionPenalty = sampling.RepetitionPenalty,
        Seed = sampling.Seed,
        Stream = Philox.StreamOf("sampler"),
    };

    /// <summary>The first time the work is queued as it is, which compiles kernels and takes memory; then it is captured.</summary>
    private void QueueOrCapture()
    {
        if (isWarm && pass.IsFixed)
        {
            graph = device.Capture(Queue);
            return;
        }

        Queue();
        isWarm = true;
    }

    private void Queue()
    {
        pass.Queue(memory.Ids, Logits);
        Draw();
    }

    private T Own<T>(T resource)
        where T : IDisposable
    {
        owned.Add(resource);
        return resource;
    }
}
