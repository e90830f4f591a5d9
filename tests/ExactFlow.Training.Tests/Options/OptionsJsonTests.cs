using ExactFlow.Tensors;
using ExactFlow.Training.Options;

namespace ExactFlow.Training.Tests.Options;

public class OptionsJsonTests
{
    private static TrainingOptions Read(string json, params string[] settings) => OptionsJson.Read<TrainingOptions>(json, "the recipe 'r.json'", settings);

    [Fact]
    public void What_a_recipe_leaves_out_keeps_its_default()
    {
        TrainingOptions options = Read("""{ "steps": 7, "optimizer": { "learning_rate": 0.5 } }""");
        Assert.Equal(7, options.Steps);
        Assert.Equal(0.5, options.Optimizer.LearningRate);
        Assert.Equal(new OptimizerOptions().Beta2, options.Optimizer.Beta2);
        Assert.Equal("efla", options.Model.Rule);
    }

    [Fact]
    public void Writing_and_reading_gives_the_same_options()
    {
        TrainingOptions options = Read("{}", "data.text=a.txt,b.txt", "model.rule=deltanet", "evaluation.prompt=Once \"upon\"", "optimizer.epsilon=1e-9", "data.tokenizer=t.json");
        string json = OptionsJson.Write(options);
        Assert.Equal(json, OptionsJson.Write(Read(json)));
        Assert.Equal(["a.txt", "b.txt"], Read(json).Data.Text);
        Assert.Equal("Once \"upon\"", Read(json).Evaluation.Prompt);
    }

    [Fact]
    public void Settings_win_over_the_file_and_later_ones_over_earlier()
    {
        TrainingOptions options = Read("""{ "steps": 7, "model": { "layers": 3 } }""", "steps=8", "steps=9", "model.tie_embeddings=true", "data.tokenizer=x", "data.tokenizer=null");
        Assert.Equal(9, options.Steps);
        Assert.Equal(3, options.Model.Layers);
        Assert.True(options.Model.TieEmbeddings);
        Assert.Null(options.Data.Tokenizer);
    }

    [Theory]
    [InlineData("""{ "step": 7 }""", "no option 'step'; allowed here: name, steps, seed")]
    [InlineData("""{ "optimizer": { "lr": 1 } }""", "no option 'optimizer.lr'; allowed in 'optimizer': learning_rate, start_learning_rate")]
    [InlineData("""{ "steps": 0 }""", "'steps' must be a whole number of 1 or more, but it is 0")]
    [InlineData("""{ "steps": 1.5 }""", "'steps' must be a whole number of 1 or more, but it is 1.5")]
    [InlineData("""{ "steps": "many" }""", "'steps' must be a whole number of 1 or more, but it is \"many\"")]
    [InlineData("""{ "steps": null }""", "'steps' must be a whole number of 1 or more, but it is null")]
    [InlineData("""{ "model": { "tie_embeddings": 1 } }""", "'model.tie_embeddings' must be true or false, but it is 1")]
    [InlineData("""{ "optimizer": { "learning_rate": 0 } }""", "'optimizer.learning_rate' must be a number above 0")]
    [InlineData("""{ "optimizer": 3 }""", "'optimizer' must be an object with learning_rate")]
    [InlineData("""{ "name": "../x" }""", "'name' must be a string of letters, digits")]
    [InlineData("""{ "steps": 1, "steps": 2 }""", "not valid JSON")]
    [InlineData("""{ "steps": """, "not valid JSON")]
    [InlineData("[1]", "a JSON object was expected, but it holds a list")]
    public void Says_in_one_sentence_what_is_wrong(string json, string part)
    {
        var error = Assert.Throws<InvalidInputException>(() => Read(json));
        Assert.Contains(part, error.Message, StringComparison.Ordinal);
        Assert.Contains("r.json", error.Message, StringComparison.Ordinal);
        Assert.DoesNotContain('\n', error.Message);
    }

    [Theory]
    [InlineData("steps", "has no value")]
    [InlineData("steps=", "'steps' must be a whole number")]
    [InlineData("steps=abc", "but it is \"abc\"")]
    [InlineData("steps.more=1", "'steps' is a single value, not a section")]
    [InlineData("modell.rule=efla", "no option 'modell'")]
    [InlineData("model=efla", "'model' must be an object")]
    [InlineData("data.validation_fraction=0.9", "from 0.0001 to 0.5")]
    public void A_bad_setting_is_named(string setting, string part)
    {
        var error = Assert.Throws<InvalidInputException>(() => Read("{}", setting));
        Assert.Contains(part, error.Message, StringComparison.Ordinal);
        Assert.Contains(setting, error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_missing_file_is_named()
    {
        var error = Assert.Throws<InvalidInputException>(() => OptionsJson.Load<TrainingOptions>("no/such/recipe.json", []));
        Assert.Contains("no/such/recipe.json", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Every_option_is_described()
    {
        IReadOnlyList<(string Path, string Default, string Description)> rows = OptionsJson.Describe<TrainingOptions>();
        Assert.Contains(("optimizer.clip", "1", "largest global gradient norm, larger ones are scaled down to it; 0 = no clipping"), rows);
        Assert.All(rows, row => Assert.NotEmpty(row.Description));
    }
}
