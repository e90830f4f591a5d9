using ExactFlow.Tensors.Randomness;

namespace ExactFlow.Operators.Tests.DeltaRule;

/// <summary>Random problems, reproducible by seed.</summary>
internal static class Problems
{
    public static DeltaRuleProblem Random(
        string rule,
        int batch = 1,
        int time = 70,
        int keyHeads = 1,
        int valueHeads = 1,
        int keyDim = 16,
        int valueDim = 16,
        ulong seed = 1,
        double keyScale = 0.25,
        double betaScale = 1,
        double decayScale = 0.3,
        int chunkLength = 64,
        int[]? offsets = null,
        bool gradients = true)
    {
        int sequences = offsets is null ? batch : offsets.Length - 1;
        int states = sequences * valueHeads * keyDim * valueDim;
        int scalars = batch * time * valueHeads;
        return new DeltaRuleProblem
        {
            Rule = DeltaRuleKind.Parse(rule),
            QueryShape = [batch, time, keyHeads, keyDim],
            ValueShape = [batch, time, valueHeads, valueDim],
            Query = Normal(seed, 0, batch * time * keyHeads * keyDim, 1),
            Key = Normal(seed, 1, batch * time * keyHeads * keyDim, keyScale),
            Value = Normal(seed, 2, scalars * valueDim, 1),
            Beta = Uniform(seed, 3, scalars, 0, betaScale),
            LogDecay = Uniform(seed, 4, scalars, -decayScale, 0),
            InitialState = Normal(seed, 5, states, 1),
            Offsets = offsets is null ? null : new SequenceOffsets(offsets),
            ChunkLength = chunkLength,
            GradOutput = gradients ? Normal(seed, 6, scalars * valueDim, 1) : null,
            GradFinalState = gradients ? Normal(seed, 7, states, 1) : null,
        };
    }

    /// <summary>Normal numbers, rounded to float32 so that every precision starts from the same inputs.</summary>
    public static double[] Normal(ulong seed, ulong stream, int count, double scale)
    {
        var random = new Philox(seed, stream);
        var values = new double[count];
        for (int i = 0; i < count; i++)
        {
            values[i] = (float)(scale * random.Normal((ulong)i));
        }

        return values;
    }

    public static double[] Uniform(ulong seed, ulong stream, int count, double low, double high)
    {
        var random = new Philox(seed, stream);
        var values = new double[count];
        for (int i = 0; i < count; i++)
        {
            values[i] = (float)random.Uniform((ulong)i, low, high);
        }

        return values;
    }
}
