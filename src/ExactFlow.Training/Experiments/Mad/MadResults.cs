namespace ExactFlow.Training.Experiments.Mad;

/// <summary>What a study's results say about a task, a setting and a mixer: of each seed the best point of the sweep, then mean and spread over seeds.</summary>
/// <param name="results">Lines of a study.</param>
internal sealed class MadResults(IEnumerable<MadResult> results)
{
    private readonly ILookup<(string Task, string Setting, string Mixer), MadResult> trainings = results.ToLookup(result => (result.Task, result.Setting, result.Mixer));

    /// <summary>For each seed the training that is best by a measure; trainings without that measure do not count.</summary>
    public IEnumerable<MadResult> BestOfSeeds(string task, string setting, string mixer, MadMeasure measure)
        => trainings[(task, setting, mixer)].Where(result => measure.Of(result.Outcome) is not null)
            .GroupBy(result => result.Seed).OrderBy(group => group.Key).Select(group => group.MaxBy(result => measure.Of(result.Outcome))!);

    /// <summary>The measure in percent; null without results.</summary>
    public MeanAndSpread? Of(string task, string setting, string mixer, MadMeasure measure)
    {
        double[] best = [.. BestOfSeeds(task, setting, mixer, measure).Select(result => 100 * measure.Of(result.Outcome)!.Value)];
        return best.Length == 0 ? null : MeanAndSpread.Of(best);
    }

    /// <summary>
    /// The measure in percent, a mean over a task's settings, and how many of them there are results of. Where seeds cover different settings, those that cover
    /// what the first of the widest covers count; null without results.
    /// </summary>
    public (MeanAndSpread Value, int Covered)? OverSettings(MadTaskKind task, string mixer, MadMeasure measure)
    {
        var settings = task.SettingsOf([MadTaskKind.Full]).SelectMany(setting => BestOfSeeds(task.Name, setting.Name, mixer, measure));
        (string Covered, double[] Values)[] seeds =
            [.. settings.GroupBy(result => result.Seed).Select(seed => (string.Join(' ', seed.Select(result => result.Setting)), seed.Select(result => 100 * measure.Of(result.Outcome)!.Value).ToArray()))];
        if (seeds.Length == 0)
        {
            return null;
        }

        (string widest, double[] values) = seeds.MaxBy(seed => seed.Values.Length);
        return (MeanAndSpread.Of(seeds.Where(seed => seed.Covered == widest).Select(seed => seed.Values.Average())), values.Length);
    }

    /// <summary>Whether there are results of a harder setting of a task that has any.</summary>
    public bool HasHarder(MadTaskKind task, string mixer) => task.Changes.Any(settings => trainings.Contains((task.Name, settings.DifferenceTo(task.Baseline), mixer)));
}
