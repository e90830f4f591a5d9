using ExactFlow.Cuda;
using ExactFlow.Models.Decoding;
using ExactFlow.Operators;
using ExactFlow.Tensors;

namespace ExactFlow.Models;

/// <summary>
/// Continues prompts: reads them in long pieces (chunkwise form), then one token at a time (recurrent form) with a carried state.
/// Each token opens and closes a step of its own, so no step may be open while a generator runs. On a GPU tokens are drawn there (<see cref="CudaDecoder"/>),
/// and the device works on the next one while the host looks at the last.
/// </summary>
/// <param name="model">The model; the caller owns it.</param>
public sealed class Generator(LanguageModel model)
{
    /// <summary>Generates tokens of one sequence as they are asked for.</summary>
    /// <param name="prompt">Token ids, at least one.</param>
    /// <param name="options">How far and how; null for the defaults.</param>
    /// <param name="state">
    /// A state of one sequence to begin from; afterwards it holds everything up to, but not including, the last token generated, so that a continuation's prompt
    /// begins with that token. Null for a fresh one.
    /// </param>
    /// <exception cref="InvalidInputException">The prompt is empty, has an id outside the vocabulary, or an option is out of range.</exception>
    public IEnumerable<int> Stream(IReadOnlyList<int> prompt, GenerationOptions? options = null, ModelState? state = null)
    {
        options = (options ?? new GenerationOptions()).Validate();
        int[][] prompts = [[.. prompt]];
        Check(prompts);
        return StreamChecked(prompts, options, state);
    }

    /// <summary>Generates the continuations of several prompts together.</summary>
    /// <param name="prompts">Token ids of each, at least one; lengths may differ.</param>
    /// <param name="options">How far and how; null for the defaults.</param>
    /// <param name="onToken">Called with (sequence, token) for each token as it is drawn.</param>
    /// <returns>The tokens generated for each prompt, without the prompt.</returns>
    /// <exception cref="InvalidInputException">A prompt is empty, has an id outside the vocabulary, or an option is out of range.</exception>
    public IReadOnlyList<IReadOnlyList<int>> Generate(IReadOnlyList<IReadOnlyList<int>> prompts, GenerationOptions? options = null, Action<int, int>? onToken = null)
    {
        ArgumentNullException.ThrowIfNull(prompts);
        options = (options ?? new GenerationOptions()).Validate();
        int[][] copies = [.. prompts.Select(prompt => prompt.ToArray())];
        Check(copies);
        List<int>[] results = [.. copies.Select(_ => new List<int>())];
        if (copies.Length > 0)
        {
            using ModelState state = model.CreateState(copies.Length);
            foreach ((int sequence, int token) in Run(copies, options, state, isOurs: true))
            {
                results[sequence].Add(token);
                onToken?.Invoke(sequence, token);
            }
        }

        return results;
    }

    private IEnumerable<int> StreamChecked(int[][] prompts, GenerationOptions options, ModelState? given)
    {
        ModelState state = given ?? model.CreateState();
        try
        {
            foreach ((_, int token) in Run(prompts, options, state, isOurs: given is null))
            {
                yield return token;
            }
        }
        finally
        {
            if (given is null)
            {
                state.Dispose();
            }
        }
    }

    /// <param name="isOurs">Whether nobody will look at the state afterwards, so that it may be further on than the last token given out.</param>
    private IEnumerable<(int Sequence, int Token)> Run(int[][] prompts, GenerationOptions options, ModelState state, bool isOurs)
        => model.Device is CudaDevice ? RunOnGpu(prompts, options, state, isOurs) : RunOnHost(prompts, options, state);

    private IEnumerable<(int Sequence, int Token)> RunOnHost(int[][] prompts, GenerationOptions options, ModelState state)
    {
        int vocabulary = model.Config.VocabularySize;
        var logits = new float[prompts.Length * vocabulary];
        var next = new int[prompts.Length];
        var running = new bool[prompts.Length];
        var samplers = new Sampler[prompts.Length];
        for (int i = 0; i < prompts.Length; i++)
        {
            samplers[i] = new Sampler(options.Sampling, i);
            samplers[i].Observe(prompts[i]);
            running[i] = true;
        }

        for (int step = 0; step < options.MaxTokens && running.Contains(true); step++)
        {
            if (step == 0)
            {
                Prefill(prompts, options.PrefillLength, state, (i, last) => last.CopyTo(logits.AsSpan(i * vocabulary, vocabulary)));
            }
            else
            {
                Decode(next, state, logits);
            }

            for (int i = 0; i < prompts.Length; i++)
            {
                // A finished sequence keeps reading its last token, and nobody looks.
                if (running[i])
                {
                    next[i] = samplers[i].Next(logits.AsSpan(i * vocabulary, vocabulary));
                    running[i] = !options.StopTokens.Contains(next[i]);
                    yield return (i, next[i]);
                }
            }
        }
    }

    private IEnumerable<(int Sequence, int Token)> RunOnGpu(int[][] prompts, GenerationOptions options, ModelState state, bool isOurs)
    {
        if (options.MaxTokens == 0)
        {
            yield break;
        }

        using var decoder = new CudaDecoder(model, state, options.Sampling);
        decoder.Observe(prompts);
        Prefill(prompts, options.PrefillLength, state, (i, last) => decoder.Logits.Slice(i, 1).CopyFrom(last));
        decoder.Draw();
        decoder.Send();
        var next = new int[prompts.Length];
        var running = new bool[prompts.Length];
        Array.Fill(running, true);
        for (int step = 0; running.Contains(true); step++)
        {
            // One token ahead of the host. A state that is looked at afterwards must not be.
            bool isLast = step + 1 == options.MaxTokens;
            if (isOurs && !isLast)
            {
                decoder.Advance();
                decoder.Send();
            }

            decoder.Receive(next);
            for (int i = 0; i < prompts.Length; i++)
            {
                // A finished sequence goes on by itself, and nobody looks.
                if (running[i])
                {
                    running[i] = !options.StopTokens.Contains(CudaDecoder.Check(next[i]));
                    yield return (i, next[i]);
                }
            }

            if (isLast)
            {
                break;
            }

            if (!isOurs && running.Contains(true))
            {
                decoder.Advance();
                decoder.Send();
            }
        }
    }

    private void Decode(ReadOnlySpan<int> tokens, ModelState state, Span<float> logits)
    {
        using var step = model.Device.BeginStep(recordGradients: false);
        Tensor ids = model.Device.From(tokens, [tokens.Length, 1]);
        model.LastLogits(model.Forward(ids, state: state)).CopyTo(logits);
    }

    /// <summary>
    /// Reads the prompts in rounds; in each, every sequence that has tokens left gives up to <paramref name="length"/> to one packed row. The logits after each
    /// prompt are handed to <paramref name="receive"/>, [1, vocabulary], as a tensor of the open step.
    /// </summary>
    private void Prefill(int[][] prompts, int length, ModelState state, Action<int, Tensor> receive)
    {
        int longest = prompts.Max(prompt => prompt.Length);
        length = model.Config.Mixer.Family == MixerFamily.Softmax ? longest : length;
        var offsets = new int[prompts.Length + 1];
        var row = new List<int>();
        for (int start = 0; start < longest; start += length)
        {
            row.Clear();
            for (int i = 0; i < prompts.Length; i++)
            {
                int first = Math.Min(start, prompts[i].Length);
                row.AddRange(prompts[i].AsSpan(first, Math.Min(length, prompts[i].Length - first)));
                offsets[i + 1] = row.Count;
            }

            Read(prompts, start + length, [.. row], offsets, state, receive);
        }
    }

    /// <summary>Reads one packed row and hands over the logits of the sequences that it finishes.</summary>
    private void Read(int[][] prompts, int end, ReadOnlySpan<int> row, int[] offsets, ModelState state, Action<int, Tensor> receive)
    {
        Device device = model.Device;
        using var step = device.BeginStep(recordGradients: false);
        Tensor ids = device.From(row, [1, row.Length]);
        Tensor hidden = model.Forward(ids, prompts.Length == 1 ? null : new SequenceOffsets(offsets), state);
        for (int i = 0; i < prompts.Length; i++)
        {
            if (offsets[i + 1] > offsets[i] && prompts[i].Length <= end)
            {
                Tensor last = hidden.Reshape([row.Length, model.Config.HiddenSize]).Slice(offsets[i + 1] - 1, 1).Reshape([1, 1, model.Config.HiddenSize]);
                receive(i, model.LastLogits(last));
            }
        }
    }

    private void Check(int[][] prompts)
    {
        for (int i = 0; i < prompts.Length; i++)
        {
            if (prompts[i].Length == 0)
            {
                throw new InvalidInputException($"Prompt {i} to continue has no tokens; begin with at least one, such as the begin-of-text token.");
            }

            int outside = Array.FindIndex(prompts[i], token => token < 0 || token >= model.Config.VocabularySize);
            if (outside >= 0)
            {
                throw new InvalidInputException(
                    $"Prompt {i} has token {prompts[i][outside]} at position {outside}, but the model's vocabulary has ids 0 to {model.Config.VocabularySize - 1}; use the model's own tokenizer.");
            }
        }
    }
}
