using System.Security.Cryptography;
using ExactFlow.Tensors;
using ExactFlow.Training.Experiments.SequentialMnist;

namespace ExactFlow.Training.Tests.Experiments.SequentialMnist;

public sealed class MnistSetTests : IDisposable
{
    private const string TrainImages = "train-images-idx3-ubyte", TrainLabels = "train-labels-idx1-ubyte";
    private readonly TemporaryFolder folder = new();

    public void Dispose() => folder.Dispose();

    [Fact]
    public void Plain_and_compressed_files_give_the_same_images()
    {
        IdxSamples.Write(folder, 7, 3);
        MnistSet plain = MnistSet.ReadTraining(folder.Path), test = MnistSet.ReadTest(folder.Path);
        Assert.Equal((7, 3), (plain.Count, test.Count));
        Assert.Equal(IdxSamples.Images(7, 1)[16..], plain.Images);
        Assert.Equal(IdxSamples.Labels(3, 2)[8..], test.Labels);
        foreach (string name in (string[])[TrainImages, TrainLabels])
        {
            File.WriteAllBytes(folder[name + ".gz"], IdxSamples.Compress(File.ReadAllBytes(folder[name])));
            File.Delete(folder[name]);
        }

        Assert.Equal(plain.Hash(), MnistSet.ReadTraining(folder.Path).Hash());
        Assert.Equal(plain.Images[..(2 * MnistSet.Pixels)], MnistSet.ReadTraining(folder.Path, 2).Images);
        Assert.NotEqual(plain.Hash(), MnistSet.ReadTraining(folder.Path, 2).Hash());
    }

    public static TheoryData<string, string, string[]> Damages => new()
    {
        { "images missing", TrainImages, ["lacks", TrainImages, "exactflow data get mnist"] },
        { "labels missing", TrainLabels, ["lacks", TrainLabels] },
        { "images empty", TrainImages, ["ends within its first four bytes"] },
        { "images cut within the header", TrainImages, ["ends within its header"] },
        { "images cut off", TrainImages, ["announces 5 images but ends after 4", "fetch it again"] },
        { "images too long", TrainImages, ["goes on after the 5 images"] },
        { "images compressed and cut off", TrainImages, [TrainImages, "fetch it again"] },
        { "labels cut off", TrainLabels, ["announces 5 labels but ends after 4"] },
        { "swapped", TrainImages, ["should hold images", "the file holds labels", "swapped"] },
        { "wrong magic", TrainLabels, ["0x00000C01", "no such IDX file"] },
        { "no items", TrainLabels, ["announces 0 labels"] },
        { "negative count", TrainImages, ["announces -1 images"] },
        { "a count beyond all memory", TrainImages, ["announces 2147483647 images"] },
        { "a count beyond the file", TrainImages, ["announces 9000000 images but ends after 5"] },
        { "another size", TrainImages, ["27 x 28", "28 x 28"] },
        { "another count", TrainLabels, ["holds 5 images but", "4 labels"] },
        { "a label of 10", TrainLabels, ["Label 2", "is 10", "0 to 9"] },
    };

    [Theory]
    [MemberData(nameof(Damages))]
    public void Whatever_is_wrong_with_a_file_is_said_in_a_sentence(string damage, string file, string[] parts)
    {
        IdxSamples.Write(folder, 5, 2);
        string path = folder[file];
        byte[] whole = File.ReadAllBytes(path);
        switch (damage)
        {
            case "images missing" or "labels missing":
                File.Delete(path);
                break;
            case "swapped":
                File.Move(path, folder["x"]);
                File.Move(folder[TrainLabels], path);
                File.Move(folder["x"], folder[TrainLabels]);
                break;
            default:
                File.WriteAllBytes(path, Damaged(damage, whole));
                break;
        }

        string message = Assert.Throws<InvalidInputException>(() => MnistSet.ReadTraining(folder.Path)).Message;
        Assert.All(parts, part => Assert.Contains(part, message, StringComparison.Ordinal));
    }

    [Fact]
    public void A_folder_that_is_not_there_and_too_many_images_are_refused()
    {
        Assert.Contains("no folder", Assert.Throws<InvalidInputException>(() => MnistSet.ReadTest(folder["nowhere"])).Message, StringComparison.Ordinal);
        IdxSamples.Write(folder, 5, 2);
        Assert.Contains("3 images were asked for", Assert.Throws<InvalidInputException>(() => MnistSet.ReadTest(folder.Path, 3)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void The_real_files_are_read_whole()
    {
        string real = SharedData.Find("mnist");
        MnistSet training = MnistSet.ReadTraining(real), test = MnistSet.ReadTest(real);
        Assert.Equal((60_000, 10_000), (training.Count, test.Count));
        Assert.Equal([5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949], Enumerable.Range(0, 10).Select(digit => training.Labels.Count(label => label == digit)));
        Assert.Equal([7, 2, 1, 0, 4, 1, 4, 9, 5, 9], test.Labels[..10].Select(label => (int)label));
        Assert.Equal(0.1307, training.Images.Average(pixel => pixel / 255.0), 1e-4);
    }

    private static byte[] Damaged(string damage, byte[] whole) => damage switch
    {
        "images empty" => [],
        "images cut within the header" => whole[..9],
        "images cut off" or "labels cut off" => whole[..^1],
        "images too long" => [.. whole, 0],
        "images compressed and cut off" => IdxSamples.Compress([.. whole.Select((b, i) => (byte)(b ^ SHA256.HashData([(byte)i])[0]))])[..1000],
        "wrong magic" => [0, 0, 12, 1, .. whole[4..]],
        "no items" => IdxSamples.File([0, 0, 8, 1], [0], []),
        "negative count" => [.. whole[..4], 255, 255, 255, 255, .. whole[8..]],
        "a count beyond all memory" => [.. whole[..4], 127, 255, 255, 255, .. whole[8..]],
        "a count beyond the file" => IdxSamples.File([0, 0, 8, 3], [9_000_000, 28, 28], whole[16..]),
        "another size" => IdxSamples.File([0, 0, 8, 3], [5, 27, 28], whole[16..]),
        "another count" => IdxSamples.Labels(4, 1),
        "a label of 10" => IdxSamples.File([0, 0, 8, 1], [5], [0, 9, 10, 3, 255]),
        _ => throw new ArgumentOutOfRangeException(nameof(damage)),
    };
}
