using ExactFlow.Tensors;

namespace ExactFlow.Training.Experiments.SequentialMnist;

/// <summary>What the runs of a worker share on its device: the training images, and the test images in every disturbance that was asked for.</summary>
internal sealed class ImagesOnDevice : IDisposable
{
    private readonly Device device;
    private readonly PerturbedImages test;
    private readonly Dictionary<Perturbation, Tensor> disturbed = [];

    /// <summary>Copies the training images.</summary>
    public ImagesOnDevice(Device device, MnistSet training, PerturbedImages test)
    {
        (this.device, this.test) = (device, test);
        Training = Copy(new PerturbedImages(training.Images).Make(default));
    }

    /// <summary>Float32 <c>[images, 784]</c>, in [0, 1].</summary>
    public Tensor Training { get; }

    /// <summary>Test images, float32 <c>[images, 784]</c>.</summary>
    public Tensor Test(Perturbation perturbation)
    {
        if (!disturbed.TryGetValue(perturbation, out Tensor? images))
        {
            disturbed.Add(perturbation, images = Copy(test.Make(perturbation)));
        }

        return images;
    }

    /// <summary>Where the last pixels of a batch are, and the positions of these, as <see cref="SequentialMnistModel.Logits"/> takes them.</summary>
    public static (Tensor Rows, Tensor Positions) LastPixels(Device device, int batch)
    {
        Tensor rows = device.Persistent([batch], DType.Int32), positions = device.Persistent([batch], DType.Int32);
        rows.CopyFrom<int>([.. Enumerable.Range(0, batch).Select(i => (i * MnistSet.Pixels) + MnistSet.Pixels - 1)]);
        positions.CopyFrom<int>([.. Enumerable.Repeat(MnistSet.Pixels - 1, batch)]);
        return (rows, positions);
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        Training.Dispose();
        foreach (Tensor images in disturbed.Values)
        {
            images.Dispose();
        }
    }

    private Tensor Copy(float[] pixels)
    {
        Tensor images = device.Persistent([pixels.Length / MnistSet.Pixels, MnistSet.Pixels]);
        images.CopyFrom<float>(pixels);
        return images;
    }
}
