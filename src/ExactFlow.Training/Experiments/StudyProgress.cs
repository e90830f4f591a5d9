namespace ExactFlow.Training.Experiments;

/// <summary>How far a study is.</summary>
/// <param name="Worker">The worker this is about.</param>
/// <param name="Run">The run it is at.</param>
/// <param name="RunFraction">How far that is, from 0 to 1.</param>
/// <param name="Status">What the run says, such as its loss.</param>
/// <param name="Finished">Runs that are finished, those of earlier processes included.</param>
/// <param name="Runs">Runs in all.</param>
/// <param name="Fraction">Share of the study's work that is done.</param>
/// <param name="SecondsLeft">Estimate of the time until the end, NaN before there is one.</param>
public readonly record struct StudyProgress(int Worker, string Run, double RunFraction, string Status, int Finished, int Runs, double Fraction, double SecondsLeft);
