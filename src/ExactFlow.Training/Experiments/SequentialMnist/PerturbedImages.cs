using ExactFlow.Tensors.Randomness;

namespace ExactFlow.Training.Experiments.SequentialMnist;

/// <summary>
/// Test images as pixels in [0, 1], disturbed. Noise and dropout are a function of seed, kind, image and pixel alone, the same for all models and, scaled and
/// cut, for all levels: differences between rules are not those of the noise they met. Made once, read by many threads.
/// </summary>
internal sealed class PerturbedImages
{
    private const ulong Seed = 2512_12602;
    private readonly byte[] images;
    private readonly Lazy<float[]> noise;
    private readonly Lazy<float[]> uniform;

    /// <summary>Takes the images; numbers are drawn when they are first needed.</summary>
    public PerturbedImages(byte[] images)
    {
        this.images = images;
        noise = new Lazy<float[]>(() => Draw("noise", static (random, i) => random.Normal(i)));
        uniform = new Lazy<float[]>(() => Draw("dropout", static (random, i) => random.Uniform(i)));
    }

    /// <summary>The pixels, <c>[images, 784]</c>.</summary>
    public float[] Make(Perturbation perturbation)
    {
        var pixels = new float[images.Length];
        float level = (float)perturbation.Level;
        float[] random = perturbation.Kind switch
        {
            PerturbationKind.Noise => noise.Value,
            PerturbationKind.Dropout => uniform.Value,
            _ => [],
        };
        for (int i = 0; i < pixels.Length; i++)
        {
            float pixel = images[i] * (1f / byte.MaxValue);
            pixels[i] = perturbation.Kind switch
            {
                PerturbationKind.Intensity => level * pixel,
                PerturbationKind.Noise => pixel + (level * random[i]),
                PerturbationKind.Dropout => level >= 1 || random[i] < level ? 0 : pixel,
                _ => pixel,
            };
        }

        return pixels;
    }

    private float[] Draw(string stream, Func<Philox, ulong, double> draw)
    {
        var random = new Philox(Seed, Philox.StreamOf(stream));
        var values = new float[images.Length];
        Parallel.For(0, images.Length / MnistSet.Pixels, image =>
        {
            for (int i = image * MnistSet.Pixels; i < (image + 1) * MnistSet.Pixels; i++)
            {
                values[i] = (float)draw(random, (ulong)i);
            }
        });
        return values;
    }
}
