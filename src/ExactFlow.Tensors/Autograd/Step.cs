namespace ExactFlow.Tensors.Autograd;

/// <summary>
/// The arena of one training or inference step: every tensor made while it is open gives its memory back when it closes.
/// Obtained from <see cref="Device.BeginStep"/>; the object is reused, so a step allocates nothing of its own.
/// </summary>
/// <remarks>
/// Within a step a <see cref="Recomputed"/> part has an arena and a tape of its own, in which tensors live and operators record while it runs.
/// </remarks>
public sealed class Step : IDisposable
{
    private readonly Device device;
    private readonly List<Tensor> root = [];
    private readonly Tape rootTape = new();
    private readonly List<List<Tensor>> parts = [];
    private readonly Stack<List<Tensor>> spareParts = [];
    private List<Tensor> tensors;

    internal Step(Device device)
    {
        this.device = device;
        tensors = root;
        Tape = rootTape;
    }

    /// <summary>Whether the step is between <see cref="Device.BeginStep"/> and <see cref="Dispose"/>.</summary>
    public bool IsOpen { get; private set; }

    /// <summary>Whether operators record themselves.</summary>
    public bool RecordsGradients { get; private set; }

    /// <summary>
    /// Whether the backward pass gives back the memory of every operator's result once its gradient was used: less memory the further it comes, but results
    /// cannot be read afterwards. Off when a step is opened.
    /// </summary>
    public bool ReleasesBehindBackward { get; set; }

    /// <summary>The operators recorded so far: of the step, or of the part that is being computed again.</summary>
    public Tape Tape { get; private set; }

    /// <summary>Makes a tensor outlive the step; the caller disposes it from now on.</summary>
    public Tensor Keep(Tensor tensor)
    {
        ArgumentNullException.ThrowIfNull(tensor);
        tensor.MakePersistent();
        return tensor;
    }

    /// <summary>Closes the step and returns the memory of all its tensors.</summary>
    public void Dispose()
    {
        if (!IsOpen)
        {
            return;
        }

        IsOpen = false;
        rootTape.Clear();
        foreach (List<Tensor> part in parts)
        {
            Release(part, 0);
            spareParts.Push(part);
        }

        parts.Clear();
        foreach (Tensor tensor in root)
        {
            tensor.EndOfStep();
        }

        root.Clear();
    }

    internal void Open(bool recordGradients)
    {
        if (IsOpen)
        {
            throw new InvalidOperationException($"A step is already open on {device.Name}: dispose it before beginning another.");
        }

        IsOpen = true;
        RecordsGradients = recordGradients;
        ReleasesBehindBackward = false;
    }

    internal void Adopt(Tensor tensor) => tensors.Add(tensor);

    /// <summary>An arena for a part; what is still in it at the end of the step ends then.</summary>
    internal List<Tensor> AddPart()
    {
        List<Tensor> part = spareParts.TryPop(out List<Tensor>? spare) ? spare : [];
        parts.Add(part);
        return part;
    }

    /// <summary>Does work whose tensors belong to <paramref name="arena"/> and which records itself on <paramref name="tape"/>, or not at all.</summary>
    internal Tensor RunIn(List<Tensor> arena, Tape? tape, Func<Tensor> work)
    {
        (List<Tensor> outerTensors, Tape outerTape, bool recorded) = (tensors, Tape, RecordsGradients);
        (tensors, Tape, RecordsGradients) = (arena, tape ?? outerTape, tape is not null);
        try
        {
            return work();
        }
        finally
        {
            (tensors, Tape, RecordsGradients) = (outerTensors, outerTape, recorded);
        }
    }

    /// <summary>Tensors in the arena that is current.</summary>
    internal int Mark() => tensors.Count;

    /// <summary>Ends the tensors made since a mark, apart from gradients that are still to be used.</summary>
    internal void ReleaseSince(int mark)
    {
        int kept = mark;
        for (int i = mark; i < tensors.Count; i++)
        {
            Tensor tensor = tensors[i];
            if (tensor.IsLiveGradient)
            {
                tensors[kept++] = tensor;
            }
            else
            {
                tensor.EndOfStep();
            }
        }

        tensors.RemoveRange(kept, tensors.Count - kept);
    }

    /// <summary>Ends the tensors of an arena from a position on.</summary>
    internal static void Release(List<Tensor> arena, int from)
    {
        for (int i = from; i < arena.Count; i++)
        {
            arena[i].EndOfStep();
        }

        arena.RemoveRange(from, arena.Count - from);
    }
}
