using System.Text;
using ExactFlow.Tensors;
using ExactFlow.Training.Data;

namespace ExactFlow.Training.Tests.Data;

public class ReferenceDocumentationTests
{
    private const string Sample = """
        <?xml version="1.0" encoding="utf-8"?>
        <doc>
          <assembly><name>Sample Assembly Is No Prose.</name></assembly>
          <members>
            <member name="M:Sample.List`1.Add(System.Int32)">
              <summary>Adds a <see cref="T:System.Int32" /> to the <see cref="T:Sample.List`1" /> when
                <paramref name="value" /> is not <see langword="null" />. It calls <see cref="M:Sample.List`1.#ctor(System.Object,System.Type)" /> and <c>Trim</c>.
              <code>var x = new List();</code></summary>
              <param name="value">The value, see <see href="https://example.org">the long guide</see>.</param>
              <param name="short">The value.</param>
              <returns>true &amp; false.</returns>
              <remarks><para>The <typeparamref name="T" /> parameter &quot;flows&quot; exactly as before.</para><list><item><description>Items are paragraphs of their own!</description></item></list></remarks>
              <exception cref="T:System.Exception">ABC__x (x1, y2, z3) [0;1;2] is no prose at all.</exception>
              <seealso cref="T:System.String" />
            </member>
          </members>
        </doc>
        """;

    [Fact]
    public void TagsBecomeWords()
    {
        using MemoryStream stream = new(Encoding.UTF8.GetBytes(Sample));
        Assert.Equal(
            [
                "Adds a Int32 to the List when value is not null. It calls List and Trim.",
                "The value, see the long guide.",
                "The T parameter \"flows\" exactly as before.",
                "Items are paragraphs of their own!",
            ],
            DocumentationProse.Read(stream));
    }

    [Fact]
    public void SentencesEndBeforeACapital()
        => Assert.Equal(["It is e.g. this one.", "Is it?", "Yes! it is version 1.5.", "2 follows."], DocumentationProse.Sentences("It is e.g. this one. Is it? Yes! it is version 1.5. 2 follows."));

    [Fact]
    public void TheDocumentationOfThisMachineIsProseWithoutOverlap()
    {
        TextCorpus corpus = TextSource.Load([], [], 0.05);
        Assert.True(corpus.Training.Length > 2_000_000, corpus.ToString());
        Assert.InRange(corpus.Validation.Length, 0.02 * corpus.Training.Length, 0.08 * corpus.Training.Length);
        Assert.True(corpus.ValidationFiles > 1 && corpus.TrainingFiles > 50);
        Assert.Contains("packs", corpus.Source);
        Assert.InRange(corpus.TrainingDocuments.Count, corpus.TrainingFiles / 2, corpus.TrainingFiles);
        Assert.Equal(corpus.Training.Length, corpus.TrainingDocuments.Sum(document => document.Length));
        Assert.Equal(corpus.Validation.Length, corpus.ValidationDocuments.Sum(document => document.Length));
        string training = Encoding.UTF8.GetString(corpus.Training.Span), validation = Encoding.UTF8.GetString(corpus.Validation.Span);
        HashSet<string> sentences = new(StringComparer.Ordinal);
        foreach (string sentence in training.Split('\n', StringSplitOptions.RemoveEmptyEntries).SelectMany(DocumentationProse.Sentences))
        {
            sentences.Add(sentence);
        }

        Assert.DoesNotContain(validation.Split('\n', StringSplitOptions.RemoveEmptyEntries).SelectMany(DocumentationProse.Sentences), sentences.Contains);
        Assert.DoesNotContain("<see", training);
        Assert.DoesNotContain("cref=", training);
        Assert.DoesNotContain("&lt;", training);
        int letters = training.Count(character => char.IsAsciiLetter(character) || character == ' ');
        Assert.True(letters > 0.93 * training.Length);

        Assert.Equal(corpus.Validation.ToArray(), TextSource.Load([], [], 0.05).Validation.ToArray());
    }

    [Fact]
    public void EverySentenceIsKeptOnceTrainingFirst()
    {
        using TemporaryFolder folder = new();
        List<string> files = [];
        for (int i = 0; i < 30; i++)
        {
            files.Add(folder[$"{i:00}.xml"]);
            File.WriteAllText(files[^1], $"<doc><members><member><summary>Everybody says this sentence here. Only file {(char)('a' + i)} says this other one.</summary></member></members></doc>");
        }

        TextCorpus corpus = ReferenceDocumentation.Load("sample", files, 0.1);
        string training = Encoding.UTF8.GetString(corpus.Training.Span), validation = Encoding.UTF8.GetString(corpus.Validation.Span);
        Assert.InRange(corpus.ValidationFiles, 2, 4);
        Assert.Equal(1, (training + validation).Split("Everybody says").Length - 1);
        Assert.StartsWith("Everybody says", training);
        Assert.Equal(30, (training + validation).Split("Only file").Length - 1);
    }

    [Fact]
    public void WithoutReferencePacksThePlacesLookedAtAreNamed()
    {
        using TemporaryFolder folder = new();
        Directory.CreateDirectory(Path.Combine(folder["empty"], "packs", "Some.Ref", "1.0.0"));
        string message = Assert.Throws<InvalidInputException>(() => ReferenceDocumentation.Load([folder["none"], folder["empty"]], 0.1)).Message;
        Assert.Contains(Path.Combine(folder["none"], "packs"), message);
        Assert.Contains(Path.Combine(folder["empty"], "packs"), message);
        Assert.Contains("DOTNET_ROOT", message);
    }

    [Fact]
    public void TheLargestCopyOfAFileOfSeveralPacksIsRead()
    {
        using TemporaryFolder folder = new();
        foreach ((string pack, string word) in (ReadOnlySpan<(string, string)>)[("A.Ref", "short"), ("B.Ref", "longer"), ("C.Ref", "tiny")])
        {
            string references = Path.Combine(folder.Path, "packs", pack, "10.0.0", "ref", "net10.0");
            Directory.CreateDirectory(references);
            File.WriteAllText(Path.Combine(references, "Same.xml"), $"<doc><summary>This is the {word} copy.</summary></doc>");
            File.WriteAllText(Path.Combine(references, "Same.dll"), "no documentation");
        }

        TextCorpus corpus = ReferenceDocumentation.Load([folder.Path], 0.1);
        Assert.Equal("This is the longer copy.\n", Encoding.UTF8.GetString(corpus.Training.Span));
        Assert.Equal((1, 0), (corpus.TrainingFiles, corpus.ValidationFiles));
    }

    [Fact]
    public void ADamagedFileIsNamed()
    {
        using TemporaryFolder folder = new();
        File.WriteAllText(folder["a.xml"], "<doc><members>");
        Exception error = Assert.ThrowsAny<Exception>(() => ReferenceDocumentation.Load("sample", [folder["a.xml"]], 0.1));
        Assert.Contains("a.xml", Assert.IsType<InvalidInputException>(error).Message);
    }
}
