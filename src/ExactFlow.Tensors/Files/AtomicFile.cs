using System.Runtime.InteropServices;
using System.Text;

namespace ExactFlow.Tensors.Files;

/// <summary>
/// A file that appears whole or not at all: bytes go to a temporary name in the same folder (<c>name.tmp</c>); <see cref="Commit"/> flushes them to disk,
/// renames onto the final name and flushes the folder. Disposed without a commit, it leaves nothing behind and an older file of that name stays as it was.
/// A process killed half-way leaves at most the one temporary file, which the next write of the same name replaces.
/// </summary>
/// <remarks>Every fault of the disk (full, read-only, missing folder, no permission) is an <see cref="InvalidInputException"/> that says so in one sentence.</remarks>
public sealed partial class AtomicFile : Stream
{
    private const int BufferSize = 1 << 16;
    private readonly string temporaryPath;
    private FileStream? stream;

    /// <summary>Creates the temporary file.</summary>
    /// <param name="path">The file's final name; its folder must exist.</param>
    /// <exception cref="InvalidInputException">The folder is missing or cannot be written, or another process is writing this file.</exception>
    public AtomicFile(string path)
    {
        ArgumentException.ThrowIfNullOrEmpty(path);
        Path = System.IO.Path.GetFullPath(path);
        temporaryPath = Path + ".tmp";
        try
        {
            if (Directory.Exists(Path))
            {
                throw new InvalidInputException($"Cannot write '{Path}': a folder of that name exists; choose another name or remove it.");
            }

            stream = new FileStream(temporaryPath, FileMode.Create, FileAccess.ReadWrite, FileShare.None, BufferSize);
        }
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException)
        {
            throw Describe(exception);
        }
    }

    /// <summary>The file's final name.</summary>
    public string Path { get; }

    /// <inheritdoc/>
    public override bool CanRead => false;

    /// <inheritdoc/>
    public override bool CanSeek => stream is not null;

    /// <inheritdoc/>
    public override bool CanWrite => stream is not null;

    /// <inheritdoc/>
    public override long Length => Open.Length;

    /// <inheritdoc/>
    public override long Position
    {
        get => Open.Position;
        set => Seek(value, SeekOrigin.Begin);
    }

    private FileStream Open => stream ?? throw new ObjectDisposedException(nameof(AtomicFile), $"'{Path}' was committed or disposed already.");

    /// <summary>Writes a whole file.</summary>
    public static void WriteAllBytes(string path, ReadOnlySpan<byte> contents)
    {
        using var file = new AtomicFile(path);
        file.Write(contents);
        file.Commit();
    }

    /// <summary>Writes a whole text file as UTF-8 without a byte-order mark.</summary>
    public static void WriteAllText(string path, string contents) => WriteAllBytes(path, Encoding.UTF8.GetBytes(contents));

    /// <summary>Flushes to disk and renames onto the final name: from here on the new file is what readers see. The stream is closed.</summary>
    /// <exception cref="InvalidInputException">The disk is full or the rename was refused; nothing is left behind and an older file is untouched.</exception>
    public void Commit()
    {
        FileStream open = Open;
        try
        {
            open.Flush(flushToDisk: true);
            open.Dispose();
            File.Move(temporaryPath, Path, overwrite: true);
            stream = null;
        }
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException)
        {
            Discard();
            throw Describe(exception);
        }

        FlushFolder(System.IO.Path.GetDirectoryName(Path)!);
    }

    /// <inheritdoc/>
    public override void Write(ReadOnlySpan<byte> buffer)
    {
        try
        {
            Open.Write(buffer);
        }
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException)
        {
            Discard();
            throw Describe(exception);
        }
    }

    /// <inheritdoc/>
    public override void Write(byte[] buffer, int offset, int count) => Write(buffer.AsSpan(offset, count));

    /// <summary>Hands buffered bytes to the operating system; only <see cref="Commit"/> forces them to disk.</summary>
    public override void Flush()
    {
        try
        {
            stream?.Flush();
        }
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException)
        {
            Discard();
            throw Describe(exception);
        }
    }

    /// <inheritdoc/>
    public override long Seek(long offset, SeekOrigin origin)
    {
        try
        {
            return Open.Seek(offset, origin);
        }
        catch (IOException exception)
        {
            Discard();
            throw Describe(exception);
        }
    }

    /// <inheritdoc/>
    public override void SetLength(long value) => throw new NotSupportedException("An atomic file grows by writing only.");

    /// <inheritdoc/>
    public override int Read(byte[] buffer, int offset, int count) => throw new NotSupportedException("An atomic file is for writing only.");

    /// <inheritdoc/>
    protected override void Dispose(bool disposing)
    {
        if (disposing)
        {
            Discard();
        }

        base.Dispose(disposing);
    }

    private static bool IsDiskFull(Exception exception)
    {
        const int LinuxNoSpace = 28, LinuxQuota = 122, MacQuota = 69, WindowsDiskFull = unchecked((int)0x80070070), WindowsHandleDiskFull = unchecked((int)0x80070027);
        int code = exception.HResult;
        return OperatingSystem.IsWindows()
            ? code is WindowsDiskFull or WindowsHandleDiskFull
            : code == LinuxNoSpace || code == (OperatingSystem.IsMacOS() ? MacQuota : LinuxQuota);
    }

    /// <summary>Makes a rename durable: on Unix the folder is a file of its own that must reach the disk. File systems that refuse this lose nothing but the guarantee.</summary>
    private static void FlushFolder(string folder)
    {
        if (OperatingSystem.IsWindows())
        {
            return;
        }

        int descriptor = OpenDescriptor(folder, 0);
        if (descriptor >= 0)
        {
            _ = SynchroniseDescriptor(descriptor);
            _ = CloseDescriptor(descriptor);
        }
    }

    [LibraryImport("libc", EntryPoint = "open", StringMarshalling = StringMarshalling.Utf8)]
    private static partial int OpenDescriptor(string path, int flags);

    [LibraryImport("libc", EntryPoint = "fsync")]
    private static partial int SynchroniseDescriptor(int descriptor);

    [LibraryImport("libc", EntryPoint = "close")]
    private static partial int CloseDescriptor(int descriptor);

    /// <summary>Closes and deletes the temporary file. Closing may fail again on a full disk, and that must not hide the first error.</summary>
    private void Discard()
    {
        if (stream is not { } open)
        {
            return;
        }

        stream = null;
        try
        {
            open.Dispose();
        }
        catch (IOException)
        {
            open.SafeFileHandle.Dispose();
        }

        try
        {
            File.Delete(temporaryPath);
        }
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException)
        {
            // The folder vanished or became read-only: the error being reported already says so.
        }
    }

    private InvalidInputException Describe(Exception exception)
    {
        string folder = System.IO.Path.GetDirectoryName(Path) ?? Path;
        string what = exception switch
        {
            DirectoryNotFoundException => $"the folder '{folder}' does not exist; create it or choose another place",
            UnauthorizedAccessException => $"writing to the folder '{folder}' is not permitted; choose another place or change its permissions",
            _ when IsDiskFull(exception) => $"the disk that holds '{folder}' is full; free some space and try again (an older file of that name is untouched)",
            _ => $"{exception.Message.TrimEnd('.')}; check the disk and whether another process is writing the same file",
        };
        return new InvalidInputException($"Cannot write '{Path}': {what}.", exception);
    }
}
