namespace ExactFlow.Operators;

/// <summary>
/// What one worker runs from its first chunk to its last: some value columns of one head over some chunks of one sequence.
/// Columns of the state are independent; stretches of chunks (segments) are made so by <see cref="Segments{TL, T}"/>.
/// </summary>
internal readonly record struct Lane(int Sequence, int Head, int FirstColumn, int Columns, int Segment, int FirstChunk, int EndChunk);
