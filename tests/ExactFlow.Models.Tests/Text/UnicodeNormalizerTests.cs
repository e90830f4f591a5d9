using System.Text;
using ExactFlow.Models.Text.Normalizers;
using ExactFlow.Tensors.Randomness;

namespace ExactFlow.Models.Tests.Text;

public class UnicodeNormalizerTests
{
    /// <summary>Examples of Unicode Standard Annex 15: text, and its forms C, D, KC and KD.</summary>
    [Theory]
    [InlineData("\u1E0A", "\u1E0A", "D\u0307", "\u1E0A", "D\u0307")]
    [InlineData("\u1E0A\u0323", "\u1E0C\u0307", "D\u0323\u0307", "\u1E0C\u0307", "D\u0323\u0307")]
    [InlineData("D\u0307\u0323", "\u1E0C\u0307", "D\u0323\u0307", "\u1E0C\u0307", "D\u0323\u0307")]
    [InlineData("\u212B", "\u00C5", "A\u030A", "\u00C5", "A\u030A")]
    [InlineData("\uFB03", "\uFB03", "\uFB03", "ffi", "ffi")]
    [InlineData("\u1E9B\u0323", "\u1E9B\u0323", "\u017F\u0323\u0307", "\u1E69", "s\u0323\u0307")]
    [InlineData("\uAC01", "\uAC01", "\u1100\u1161\u11A8", "\uAC01", "\u1100\u1161\u11A8")]
    [InlineData("\u1100\u1161\u11A8", "\uAC01", "\u1100\u1161\u11A8", "\uAC01", "\u1100\u1161\u11A8")]
    [InlineData("\u0958", "\u0915\u093C", "\u0915\u093C", "\u0915\u093C", "\u0915\u093C")]
    [InlineData("a\u0301\u0301", "\u00E1\u0301", "a\u0301\u0301", "\u00E1\u0301", "a\u0301\u0301")]
    [InlineData("\u00BD \u2460", "\u00BD \u2460", "\u00BD \u2460", "1\u20442 1", "1\u20442 1")]
    public void TheExamplesOfTheStandardAgree(string text, string c, string d, string kc, string kd)
    {
        Assert.Equal(c, Form(false, true).Apply(text));
        Assert.Equal(d, Form(false, false).Apply(text));
        Assert.Equal(kc, Form(true, true).Apply(text));
        Assert.Equal(kd, Form(true, false).Apply(text));
    }

    [Fact]
    public void EveryFormIsAFixedPointAndKeepsInvalidBytes()
    {
        Philox random = new(5, Philox.StreamOf("forms"));
        ulong position = 0;
        for (int round = 0; round < 3000; round++)
        {
            StringBuilder text = new();
            for (int i = random.Below(position++, 12); i >= 0; i--)
            {
                int code = random.Below(position++, 2) == 0 ? 0x41 + random.Below(position++, 0x400) : random.Below(position++, 0x30000);
                text.Append(Rune.IsValid(code) ? new Rune(code).ToString() : " ");
            }

            foreach (bool isCompatible in (bool[])[false, true])
            {
                string composed = Form(isCompatible, true).Apply(text.ToString()), decomposed = Form(isCompatible, false).Apply(text.ToString());
                Assert.Equal(composed, Form(isCompatible, true).Apply(composed));
                Assert.Equal(decomposed, Form(isCompatible, false).Apply(decomposed));
                Assert.Equal(composed, Form(isCompatible, true).Apply(decomposed));
                Assert.Equal(decomposed, Form(isCompatible, false).Apply(composed));
            }
        }

        bool dropsStart = false;
        Assert.Equal([0xFF, 0xC3, 0xA9, 0x80], Form(false, true).Apply([0xFF, .. "e\u0301"u8, 0x80], continues: false, ref dropsStart));
        Assert.Null(Form(false, true).Apply("plain é “text”"u8, continues: false, ref dropsStart));
    }

    private static UnicodeNormalizer Form(bool isCompatible, bool composes) => new(isCompatible, composes);
}
