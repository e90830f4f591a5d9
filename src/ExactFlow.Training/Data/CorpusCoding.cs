namespace ExactFlow.Training.Data;

/// <summary>How the bytes of a corpus's file are stored.</summary>
public enum CorpusCoding
{
    /// <summary>As they are.</summary>
    None,

    /// <summary>Compressed with gzip.</summary>
    Gzip,

    /// <summary>Compressed with Zstandard.</summary>
    Zstandard,

    /// <summary>Columns of Apache Parquet; each row is read as a JSON line of its text columns.</summary>
    Parquet,
}
