namespace ExactFlow.Models.Text.PreTokenizers;

/// <summary>Where Metaspace puts a mark before text that does not begin with one.</summary>
internal enum PrependScheme
{
    /// <summary>Nowhere.</summary>
    Never,

    /// <summary>At the start of the whole text.</summary>
    First,

    /// <summary>Before every piece between added tokens.</summary>
    Always,
}
