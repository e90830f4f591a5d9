namespace ExactFlow.Tensors.Autograd;

/// <summary>
/// The arena of one training or inference step: every tensor made while it is open gives its memory back when it closes.
/// Obtained from <see cref="Device.BeginStep"/>; the object is reused, so a step allocates nothing of its own.
/// </summary>
public sealed class Step : IDisposable
{
    private readonly Device device;
    private readonly List<Tensor> tensors = [];

    internal Step(Device device)
    {
        this.device = device;
        Tape = new Tape();
    }

    /// <summary>Whether the step is between <see cref="Device.BeginStep"/> and <see cref="Dispose"/>.</summary>
    public bool IsOpen { get; private set; }

    /// <summary>Whether operators record themselves.</summary>
    public bool RecordsGradients { get; private set; }

    /// <summary>The operators recorded so far.</summary>
    public Tape Tape { get; }

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
        Tape.Clear();
        foreach (Tensor tensor in tensors)
        {
            tensor.EndOfStep();
        }

        tensors.Clear();
    }

    internal void Open(bool recordGradients)
    {
        if (IsOpen)
        {
            throw new InvalidOperationException($"A step is already open on {device.Name}: dispose it before beginning another.");
        }

        IsOpen = true;
        RecordsGradients = recordGradients;
    }

    internal void Adopt(Tensor tensor) => tensors.Add(tensor);
}
