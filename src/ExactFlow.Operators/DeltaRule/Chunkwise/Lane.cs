namespace ExactFlow.Operators;

/// <summary>What one worker runs from the first chunk to the last: some value columns of one head of one sequence. Columns of the state are independent.</summary>
internal readonly record struct Lane(int Sequence, int Head, int FirstColumn, int Columns);
