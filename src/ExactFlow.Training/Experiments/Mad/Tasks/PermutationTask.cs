namespace ExactFlow.Training.Experiments.Mad.Tasks;

/// <summary>
/// The word problem of S5 (arXiv 2404.08819): at every token, a permutation of five things, the product of the permutations so far. No circuit of constant
/// depth can do it, and no linear recurrence whose transitions commute.
/// </summary>
/// <remarks>Permutations have their number in lexicographic order; the product applies the one that was read last to the result of the others.</remarks>
internal sealed class PermutationTask : MadTask
{
    private const int Things = 5, Count = 120;
    private static readonly int[][] Elements = [.. Enumerable.Range(0, Count).Select(ElementOf)];
    private static readonly int[,] Products = Multiply();

    /// <summary>Checks the settings.</summary>
    public PermutationTask(MadSettings settings)
        : base(settings)
    {
        Require(settings.Vocabulary == Count, $"vocabulary {settings.Vocabulary} = 5! = {Count}", "there are as many permutations");
        Require(settings.Length >= 1, $"length {settings.Length} >= 1", "choose a longer sequence");
    }

    /// <inheritdoc/>
    public override string Name => "s5";

    /// <inheritdoc/>
    public override int InputLength => Settings.Length;

    /// <inheritdoc/>
    public override string Describe(int token) => string.Concat(Elements[token].Select(thing => (char)('1' + thing)));

    /// <summary>The number of the permutation that does <paramref name="first"/>, then <paramref name="second"/>.</summary>
    internal static int Product(int first, int second) => Products[first, second];

    /// <inheritdoc/>
    protected override void Fill(MadRandom random, MadSplit split, ulong seed, Span<int> inputs, Span<int> targets)
    {
        int product = 0;
        for (int i = 0; i < inputs.Length; i++)
        {
            inputs[i] = random.Below(Count);
            targets[i] = product = Products[product, inputs[i]];
        }
    }

    /// <summary>What takes the place of each thing, for a number in lexicographic order.</summary>
    private static int[] ElementOf(int number)
    {
        List<int> left = [.. Enumerable.Range(0, Things)];
        int[] element = new int[Things];
        for (int i = 0, block = Count; i < Things; i++)
        {
            block /= Things - i;
            element[i] = left[number / block];
            left.RemoveAt(number / block);
            number %= block;
        }

        return element;
    }

    private static int[,] Multiply()
    {
        var numbers = Elements.Select((element, number) => (Name: string.Concat(element), number)).ToDictionary(pair => pair.Name, pair => pair.number, StringComparer.Ordinal);
        var products = new int[Count, Count];
        for (int first = 0; first < Count; first++)
        {
            for (int second = 0; second < Count; second++)
            {
                products[first, second] = numbers[string.Concat(Elements[first].Select(thing => Elements[second][thing]))];
            }
        }

        return products;
    }
}
