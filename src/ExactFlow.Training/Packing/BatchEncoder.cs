using System.Collections.Concurrent;
using ExactFlow.Training.Data;

namespace ExactFlow.Training.Packing;

/// <summary>Encodes batches on several threads and hands them out in their order. What is read but not handed out yet has a bounded number of bytes.</summary>
/// <param name="tokenizer">Encodes.</param>
/// <param name="field">The field of JSON lines that holds the text.</param>
/// <param name="threads">Threads that encode.</param>
/// <param name="window">Bytes of text that may be under way.</param>
internal sealed class BatchEncoder(PackingTokenizer tokenizer, string field, int threads, long window) : IDisposable
{
    private readonly ConcurrentBag<JsonLineField> fields = [];

    /// <summary>The batches with their tokens; each batch is disposed when the next is asked for.</summary>
    /// <param name="batches">The batches.</param>
    /// <param name="stop">Asks to stop early.</param>
    public IEnumerable<(CorpusBatch Source, PackedBatch Packed)> Encode(IEnumerable<CorpusBatch> batches, CancellationToken stop)
    {
        Queue<(CorpusBatch Source, Task<PackedBatch> Task)> underWay = new();
        List<Task> running = [];
        long bytes = 0;
        try
        {
            foreach (CorpusBatch batch in batches)
            {
                underWay.Enqueue((batch, Task.Run(() => Encode(batch), CancellationToken.None)));
                running.Add(underWay.Last().Task);
                bytes += batch.Length;
                while (underWay.Count > 0 && (bytes > window || underWay.Peek().Task.IsCompleted))
                {
                    (CorpusBatch source, Task<PackedBatch> task) = underWay.Peek();
                    yield return (source, task.GetAwaiter().GetResult());
                    bytes -= source.Length;
                    underWay.Dequeue().Source.Dispose();
                }

                // This thread only reads and writes: one batch more than there are threads keeps them busy meanwhile.
                running.RemoveAll(task => task.IsCompleted);
                if (running.Count > threads)
                {
                    Task.WaitAny([.. running], CancellationToken.None);
                }

                if (stop.IsCancellationRequested)
                {
                    yield break;
                }
            }

            while (underWay.TryPeek(out (CorpusBatch Source, Task<PackedBatch> Task) oldest))
            {
                yield return (oldest.Source, oldest.Task.GetAwaiter().GetResult());
                underWay.Dequeue().Source.Dispose();
            }
        }
        finally
        {
            // Batches return to the pool only when nobody reads them any more.
            Task.WhenAll(underWay.Select(batch => batch.Task)).ContinueWith(_ => { }, TaskScheduler.Default).Wait(CancellationToken.None);
            while (underWay.TryDequeue(out (CorpusBatch Source, Task<PackedBatch> Task) left))
            {
                left.Source.Dispose();
            }
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        foreach (JsonLineField one in fields)
        {
            one.Dispose();
        }
    }

    private PackedBatch Encode(CorpusBatch batch)
    {
        // English text has about four bytes to a token.
        using MemoryStream tokens = new((batch.Length / 4 * tokenizer.BytesPerToken) + 64);
        List<PackedDocument> documents = new(batch.Count);
        JsonLineField? reader = batch.File.Format == CorpusFormat.JsonLines ? (fields.TryTake(out JsonLineField? used) ? used : new JsonLineField(field)) : null;
        long bytes = 0;
        for (int i = batch.Skip; i < batch.Count; i++)
        {
            ReadOnlySpan<byte> text = reader is null ? batch[i] : reader.Read(batch[i], batch.File.FullPath, batch.First.Entry + i + 1);
            if (!text.IsEmpty)
            {
                documents.Add(tokenizer.Encode(text, tokens));
                bytes += text.Length;
            }
        }

        if (reader is not null)
        {
            fields.Add(reader);
        }

        return new PackedBatch(tokens.GetBuffer().AsMemory(0, (int)tokens.Length), documents, bytes);
    }
}
