using System.Reflection;

namespace ExactFlow.Operators.Tests;

/// <summary>All cases of all operators, found by reflection.</summary>
internal static class CaseTable
{
    private static readonly Dictionary<string, OperatorCase> ByName = Find().ToDictionary(operatorCase => operatorCase.ToString());

    /// <summary>Names of all cases, in order.</summary>
    public static IEnumerable<string> Names => ByName.Keys.Order(StringComparer.Ordinal);

    /// <summary>Names of all cases.</summary>
    public static TheoryData<string> All => new(Names);

    /// <summary>Names of the cases that are not for timing only.</summary>
    public static TheoryData<string> Small => new(ByName.Where(entry => !entry.Value.IsBenchmark).Select(entry => entry.Key).Order(StringComparer.Ordinal));

    /// <summary>Names of the small cases whose allocations are the operator's own.</summary>
    public static TheoryData<string> Steady
        => new(ByName.Where(entry => entry.Value is { IsBenchmark: false, IsSteady: true }).Select(entry => entry.Key).Order(StringComparer.Ordinal));

    /// <summary>Number of cases that are not for timing.</summary>
    public static int SmallCount => ByName.Values.Count(operatorCase => !operatorCase.IsBenchmark);

    /// <summary>Operators that have cases.</summary>
    public static IEnumerable<string> Operators => ByName.Values.Select(operatorCase => operatorCase.Operator).Distinct();

    /// <summary>The case of a name.</summary>
    public static OperatorCase Get(string name) => ByName[name];

    private static IEnumerable<OperatorCase> Find()
        => typeof(IOperatorCases).Assembly.GetTypes()
            .Where(type => type.IsClass && type.IsAssignableTo(typeof(IOperatorCases)))
            .SelectMany(type => (IEnumerable<OperatorCase>)type.GetProperty("Cases", BindingFlags.Public | BindingFlags.Static)!.GetValue(null)!);
}
