using System.Text;
using ExactFlow.Tensors;
using ExactFlow.Training.Data;

namespace ExactFlow.Training.Tests.Data;

public sealed class JsonLineFieldTests
{
    [Theory]
    [InlineData("""{"text":"one"}""", "one")]
    [InlineData("""  {"id": 7, "meta": {"text": "inner", "list": [1, {"text": 2}]}, "text": "o\"n\u00e9\n\ud83d\ude00"} """, "o\"né\n😀")]
    [InlineData("""{"\u0074ext":"escaped name"}""", "escaped name")]
    [InlineData("""{"text":""}""", "")]
    [InlineData("\r\n", "")]
    public void TheFieldIsFoundWhereverItStands(string line, string expected)
    {
        using JsonLineField field = new("text");
        Assert.Equal(expected, Encoding.UTF8.GetString(field.Read(Encoding.UTF8.GetBytes(line), "a.jsonl", 1)));
    }

    [Fact]
    public void LongTextsFollowShortOnes()
    {
        using JsonLineField field = new("text");
        foreach (int length in (int[])[1, 100_000, 3, 1_000_000])
        {
            string text = new('x', length);
            Assert.Equal(text, Encoding.UTF8.GetString(field.Read(Encoding.UTF8.GetBytes($$"""{"text":"{{text}}"}"""), "a.jsonl", 1)));
        }
    }

    [Theory]
    [InlineData("""{"content":"one","id":3}""", "line 12 has no field 'text'", "'content', 'id'", "--field")]
    [InlineData("{}", "its fields are none")]
    [InlineData("""{"text":5}""", "must be a text, but it is a number")]
    [InlineData("""{"text":null}""", "must be a text, but it is null")]
    [InlineData("""["text"]""", "must be a JSON object", "a list")]
    [InlineData("""{"text":"one" """, "line 12 is not valid JSON")]
    [InlineData("""{"text":"one"} {}""", "line 12 is not valid JSON")]
    [InlineData("""{"text":"\ud83d"}""", "half of a surrogate pair")]
    public void WhatIsWrongIsSaidWithTheLine(string line, params string[] expected)
    {
        using JsonLineField field = new("text");
        string message = Assert.Throws<InvalidInputException>(() => field.Read(Encoding.UTF8.GetBytes(line), "a.jsonl", 12).Length).Message;
        Assert.All(expected, part => Assert.Contains(part, message, StringComparison.Ordinal));
        Assert.Contains("a.jsonl", message, StringComparison.Ordinal);
    }
}
