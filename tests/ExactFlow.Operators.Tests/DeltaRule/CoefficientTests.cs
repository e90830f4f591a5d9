namespace ExactFlow.Operators.Tests.DeltaRule;

/// <summary>The coefficient functions: values against identities and extended series, slopes against differences, extremes.</summary>
public sealed class CoefficientTests
{
    public static TheoryData<string> RuleNames => [.. DeltaRuleKind.All.Select(rule => rule.Name)];

    [Theory]
    [MemberData(nameof(RuleNames))]
    public void SlopesAreDerivatives(string name)
    {
        DeltaRuleKind rule = DeltaRuleKind.Parse(name);
        foreach ((double beta, double lambda, double logDecay) in ((double, double, double)[])[(0.7, 0.3, -0.2), (0.3, 1.6, -0.01), (1.2, 4, -1.5), (0.05, 9, -3), (0.9, 1e-3, -0.5)])
        {
            DeltaCoefficientSlopes slopes = rule.Differentiate(beta, lambda, logDecay);
            Check(slopes.EraseByBeta, slopes.WriteByBeta, 0, h => rule.Evaluate(beta * (1 + h), lambda, logDecay), beta);
            Check(slopes.EraseByLambda, slopes.WriteByLambda, 0, h => rule.Evaluate(beta, lambda * (1 + h), logDecay), lambda);
            Check(slopes.EraseByLogDecay, slopes.WriteByLogDecay, slopes.LogDecayByLogDecay, h => rule.Evaluate(beta, lambda, logDecay * (1 + h)), logDecay);
        }
    }

    /// <summary>Fourth-order central differences with a relative step of 1e-3: truncation about 1e-12 of the value's scale, rounding about 1e-13.</summary>
    private static void Check(double erase, double write, double logDecay, Func<double, DeltaCoefficients> at, double scale)
    {
        const double Step = 1e-3;
        AssertSlope(erase, c => c.Erase);
        AssertSlope(write, c => c.Write);
        AssertSlope(logDecay, c => c.LogDecay);

        void AssertSlope(double slope, Func<DeltaCoefficients, double> part)
        {
            double near = part(at(Step)) - part(at(-Step));
            double far = part(at(2 * Step)) - part(at(-2 * Step));
            double expected = ((8 * near) - far) / (12 * Step) / scale;
            Assert.Equal(expected, slope, 1e-8 * (Math.Abs(expected) + Math.Abs(part(at(0)))));
        }
    }

    [Theory]
    [InlineData(1e-300)]
    [InlineData(1e-18)]
    [InlineData(1e-9)]
    [InlineData(0.01)]
    [InlineData(0.4999999)]
    [InlineData(0.5)]
    [InlineData(0.5000001)]
    [InlineData(3.0)]
    [InlineData(40.0)]
    [InlineData(1e4)]
    public void ExactFlowIsAccurateForEveryStep(double x)
    {
        // beta = x, lambda = 1: a = 1 - e^-x, summed with 60 terms in decimal where that is possible.
        DeltaRuleKind rule = DeltaRuleKind.Efla;
        double expected = x < 8 ? (double)OneMinusExp((decimal)x) : 1 - Math.Exp(-x);
        Assert.Equal(expected, rule.Evaluate(x, 1, 0).Erase, Math.Abs(expected) * 1e-15 + 1e-28);

        // beta = 1, lambda = x: a = (1 - e^-x) / x, which tends to beta.
        if (x <= 1e-18)
        {
            Assert.Equal(1, rule.Evaluate(1, x, 0).Erase);
            Assert.Equal(-0.5, rule.Differentiate(1, x, 0).EraseByLambda);
        }
    }

    [Theory]
    [MemberData(nameof(RuleNames))]
    public void ExtremesAreFinite(string name)
    {
        DeltaRuleKind rule = DeltaRuleKind.Parse(name);
        foreach (double beta in (double[])[0, 1e-18, 1, 10])
        {
            foreach (double lambda in (double[])[0, 1e-18, 1, 3600])
            {
                foreach (double logDecay in (double[])[0, -1e-18, -1, -1e4, double.NegativeInfinity])
                {
                    DeltaCoefficients c = rule.Evaluate(beta, lambda, logDecay);
                    Assert.True(double.IsFinite(c.Erase) && double.IsFinite(c.Write) && c.LogDecay <= 0, $"{name} at {beta}, {lambda}, {logDecay}: {c}");
                    DeltaCoefficientSlopes s = rule.Differentiate(beta, lambda, logDecay);
                    double sum = s.EraseByBeta + s.EraseByLambda + s.EraseByLogDecay + s.WriteByBeta + s.WriteByLambda + s.WriteByLogDecay + s.LogDecayByLogDecay;
                    Assert.True(double.IsFinite(sum), $"{name} slopes at {beta}, {lambda}, {logDecay}: {s}");
                }
            }
        }
    }

    [Fact]
    public void IntegratorsAgreeWithTheFlowToTheirOrder()
    {
        // The error of an N-th order step is O(x^(N+1)): halving x divides it by 2^(N+1), up to the next order.
        foreach ((string name, int order) in ((string, int)[])[("explicit_euler", 1), ("implicit_euler", 1), ("rk2", 2), ("cayley", 2), ("rk4", 4)])
        {
            DeltaRuleKind rule = DeltaRuleKind.Parse(name);
            double ratio = Error(rule, 0.02) / Error(rule, 0.01);
            Assert.InRange(ratio, Math.Pow(2, order) * 0.95, Math.Pow(2, order) * 1.05);
        }

        // Relative to a ~ beta the error of x - (1 - R(-x)) loses one power of x.
        static double Error(DeltaRuleKind rule, double x) => Math.Abs(rule.Evaluate(1, x, 0).Erase - DeltaRuleKind.Efla.Evaluate(1, x, 0).Erase);
    }

    [Fact]
    public void ControlsAreTheFlowOrEulerWithOnePartExchanged()
    {
        DeltaRuleKind efla = DeltaRuleKind.Efla, unit = DeltaRuleKind.Parse("unit_key_flow"), scaled = DeltaRuleKind.Parse("unit_key_flow_scaled_value"), clipped = DeltaRuleKind.Parse("clipped_euler");
        foreach ((double beta, double lambda) in ((double, double)[])[(0.1, 0.5), (0.7, 4), (3, 100), (0.02, 9)])
        {
            // A unit key erases and writes what DeltaNet does with the step 1 - e^-beta; divided by the key's length, it writes what it erases.
            DeltaCoefficients net = DeltaRuleKind.DeltaNet.Evaluate(1 - Math.Exp(-beta), lambda, 0), of = unit.Evaluate(beta, lambda, 0), written = scaled.Evaluate(beta, lambda, 0);
            Assert.Equal(net.Erase, of.Erase, 1e-14);
            Assert.Equal(net.Write, of.Write, 1e-14);
            Assert.Equal(of.Erase, written.Erase, 1e-14);
            Assert.Equal(of.Write / Math.Sqrt(lambda + 1e-6), written.Write, 1e-14);

            // EFLA is the scaled one at the rate beta lambda, up to the 1e-6 that keeps short keys finite.
            Assert.Equal(1, scaled.Evaluate(beta * lambda, lambda, 0).Erase / efla.Evaluate(beta, lambda, 0).Erase, 5e-6);
            Assert.Equal(Math.Min(beta, 2 / lambda), clipped.Evaluate(beta, lambda, 0).Write, 1e-15);
        }
    }

    [Fact]
    public void AnUnknownRuleIsRefusedWithTheList()
    {
        var error = Assert.Throws<ExactFlow.Tensors.InvalidInputException>(() => DeltaRuleKind.Parse("elfa"));
        Assert.Contains("'elfa'", error.Message, StringComparison.Ordinal);
        Assert.Contains("log_rate_gated_efla", error.Message, StringComparison.Ordinal);
    }

    private static decimal OneMinusExp(decimal x)
    {
        decimal sum = 0;
        decimal term = 1;
        for (int n = 1; n <= 60; n++)
        {
            term *= -x / n;
            sum -= term;
        }

        return sum;
    }
}
