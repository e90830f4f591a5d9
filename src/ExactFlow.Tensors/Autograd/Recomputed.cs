namespace ExactFlow.Tensors.Autograd;

/// <summary>
/// A result that is not kept for the backward pass but computed again there: memory for time. Disposing it says that everything that reads it has run;
/// its memory ends then, and is there again when the backward pass comes to those readers. The gradients are the same bits.
/// </summary>
/// <remarks>
/// The result must be read as it is, not through views of it (<see cref="Tensor.Reshape"/>), whose memory could not be taken away.
/// Switched off, or in a step that records no gradients, it is an ordinary result; a part still leaves nothing else.
/// </remarks>
public sealed class Recomputed : IDisposable
{
    private readonly Step? step;
    private readonly Func<Tensor> compute;
    private readonly List<Tensor> arena;
    private readonly Tape? tape;
    private Tensor? again;
    private bool isForgotten;

    private Recomputed(Tensor output)
    {
        Output = output;
        compute = () => output;
        arena = [];
    }

    private Recomputed(Step step, Tensor output, Func<Tensor> compute, List<Tensor> arena, Tape? tape)
    {
        this.step = step;
        this.compute = compute;
        this.arena = arena;
        this.tape = tape;
        Output = output;
        if (tape is not null)
        {
            step.Tape.Record(output, Backward);
        }

        // The backward pass comes here when it has gone through everything that reads the result.
        step.Tape.RecordAlways(ForgetAgain);
    }

    /// <summary>The result.</summary>
    public Tensor Output { get; }

    /// <summary>
    /// Runs a part of a computation, of which nothing is kept but its result, and that only until <see cref="Dispose"/>. The backward pass runs it again,
    /// recording, and goes back through it.
    /// </summary>
    /// <param name="device">Where it runs, in an open step.</param>
    /// <param name="isOn">Whether to do so; otherwise the part is run and recorded like any other.</param>
    /// <param name="part">
    /// Operators that lead from tensors that live on to one new tensor, and the same bits each time. It is called again during the backward pass.
    /// </param>
    public static Recomputed Run(Device device, bool isOn, Func<Tensor> part)
    {
        ArgumentNullException.ThrowIfNull(device);
        ArgumentNullException.ThrowIfNull(part);
        if (!isOn || device.CurrentStep is not { } step)
        {
            return new Recomputed(part());
        }

        List<Tensor> arena = step.AddPart();
        Tensor output;
        try
        {
            output = step.RunIn(arena, null, part);
            if (!arena.Remove(output))
            {
                throw new InvalidOperationException($"A part that is computed again has to make its result {output.Shape} itself; this one returned a tensor that was there before.");
            }
        }
        finally
        {
            Step.Release(arena, 0);
        }

        step.Adopt(output);
        if (!step.RecordsGradients)
        {
            return new Recomputed(output);
        }

        return new Recomputed(step, output, part, arena, new Tape());
    }

    /// <summary>Takes the result of a recorded operator, whose memory ends with <see cref="Dispose"/> and is filled anew during the backward pass.</summary>
    /// <param name="isOn">Whether to do so; otherwise the result is kept.</param>
    /// <param name="result">Of the open step. The gradient of its own operator must not read it.</param>
    /// <param name="again">Computes the same bits once more from tensors that live on, without gradients.</param>
    public static Recomputed Of(bool isOn, Tensor result, Func<Tensor> again)
    {
        ArgumentNullException.ThrowIfNull(result);
        return isOn && result.Device.CurrentStep is { RecordsGradients: true } step ? new Recomputed(step, result, again, step.AddPart(), null) : new Recomputed(result);
    }

    /// <summary>Forgets the result until the backward pass comes to what has read it so far.</summary>
    /// <exception cref="InvalidOperationException">A view of the result exists.</exception>
    public void Dispose()
    {
        if (step is not null && !isForgotten)
        {
            isForgotten = true;
            Output.ReleaseSole();
            step.Tape.RecordAlways(Restore);
        }
    }

    private void Restore()
    {
        again = step!.RunIn(arena, tape, compute);
        Output.ShareMemoryOf(again);
        if (tape is null)
        {
            // A value alone, which lives on in the result.
            Step.Release(arena, 0);
        }
    }

    private void ForgetAgain()
    {
        if (isForgotten)
        {
            Output.EndOfStep();
        }
    }

    private void Backward()
    {
        again ??= step!.RunIn(arena, tape, compute);
        Output.MoveGradTo(again);
        tape!.Backward(step!);
        Step.Release(arena, 0);
    }
}
