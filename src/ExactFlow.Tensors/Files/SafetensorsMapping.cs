using System.IO.MemoryMappedFiles;
using Microsoft.Win32.SafeHandles;

namespace ExactFlow.Tensors.Files;

/// <summary>
/// A safetensors file as memory: its float32 tensors are CPU tensors where they lie. Nothing is read before it is used, pages are shared with everything else that
/// reads the file, and writing to a tensor makes a private copy of the page and never reaches the file.
/// </summary>
/// <remarks>
/// What is mapped is the file that was open, not its name: replacing, renaming or deleting it changes nothing here. A file that is changed in place is another matter. What is
/// written to it shows in pages that were not touched yet, and if it is cut off, touching a page behind its new end makes the system end the process, which no program can catch. Files of this
/// project are always replaced (<see cref="AtomicFile"/>), but other programs may overwrite one in place; so a file on a network, whose other users are on other machines, is not
/// mapped, and <c>EXACTFLOW_MAP=0</c> in the environment has everything read.
/// Used by one thread, that of the device.
/// </remarks>
public sealed unsafe class SafetensorsMapping : IDisposable
{
    private const string Setting = "EXACTFLOW_MAP";
    private readonly MemoryMappedFile file;
    private readonly MemoryMappedViewAccessor view;
    private readonly nint start;
    private int holders = 1;
    private bool isDisposed;

    private SafetensorsMapping(MemoryMappedFile file, MemoryMappedViewAccessor view)
    {
        this.file = file;
        this.view = view;
        byte* pointer = null;
        view.SafeMemoryMappedViewHandle.AcquirePointer(ref pointer);
        start = (nint)pointer + (nint)view.PointerOffset;
    }

    /// <summary>An entry's values as a tensor, without reading them. It keeps the file mapped until it is disposed.</summary>
    /// <param name="device">The CPU.</param>
    /// <param name="entry">An entry of the file.</param>
    /// <param name="shape">A shape of as many elements.</param>
    /// <returns>A persistent float32 tensor; null where the entry holds another format, nothing, or does not lie at a multiple of its elements' size.</returns>
    public Tensor? TryTensor(CpuDevice device, SafetensorsEntry entry, Shape shape)
    {
        ObjectDisposedException.ThrowIf(isDisposed, this);
        ArgumentNullException.ThrowIfNull(device);
        ArgumentNullException.ThrowIfNull(entry);
        ArgumentOutOfRangeException.ThrowIfNotEqual(shape.Count, entry.Count);
        if (entry.Type != SafetensorsType.F32 || entry.Offset % sizeof(float) != 0 || entry.Count == 0 || entry.Offset + entry.ByteLength > view.Capacity)
        {
            return null;
        }

        holders++;
        return new Tensor(device, device.Pool.Borrow(start + (nint)entry.Offset, entry.ByteLength, new Holder(this)), shape, DType.Float32, isPersistent: true);
    }

    /// <summary>Ends the mapping once the last of its tensors is disposed.</summary>
    public void Dispose()
    {
        if (!isDisposed)
        {
            isDisposed = true;
            Release();
        }
    }

    /// <summary>Maps an open file, or returns null: on a network, where bytes have another order, where the environment forbids it, and where the system does not map it.</summary>
    internal static SafetensorsMapping? TryMap(string path, SafeFileHandle handle)
    {
        if (!BitConverter.IsLittleEndian || Environment.GetEnvironmentVariable(Setting) == "0" || IsOnNetwork(path))
        {
            return null;
        }

        MemoryMappedFile? file = null;
        try
        {
            file = MemoryMappedFile.CreateFromFile(handle, null, 0, MemoryMappedFileAccess.CopyOnWrite, HandleInheritability.None, leaveOpen: true);
            return new SafetensorsMapping(file, file.CreateViewAccessor(0, 0, MemoryMappedFileAccess.CopyOnWrite));
        }
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException or ArgumentException)
        {
            file?.Dispose();
            return null;
        }
    }

    /// <summary>Whether others may change the file from elsewhere; so it is taken to be where the system does not say.</summary>
    private static bool IsOnNetwork(string path)
    {
        try
        {
            return new DriveInfo(System.IO.Path.GetFullPath(path)).DriveType == DriveType.Network;
        }
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException or ArgumentException)
        {
            return true;
        }
    }

    private void Release()
    {
        if (--holders == 0)
        {
            view.SafeMemoryMappedViewHandle.ReleasePointer();
            view.Dispose();
            file.Dispose();
        }
    }

    /// <summary>A tensor's part in keeping the file mapped.</summary>
    private sealed class Holder(SafetensorsMapping mapping) : IDisposable
    {
        public void Dispose() => mapping.Release();
    }
}
