using ExactFlow.Tensors;
using ExactFlow.Tensors.Parallel;

namespace ExactFlow.Operators;

public static unsafe partial class RotaryEmbedding
{
    private static void Rotate(CpuDevice device, Tensor x, Tensor y, int position, float theta, SequenceOffsets? offsets, bool backwards, bool accumulate)
    {
        (int batch, int time, int heads, int dim) = (x.Shape[0], x.Shape[1], x.Shape[2], x.Shape[3]);
        int documents = offsets?.Count ?? batch;
        for (int document = 0; document < documents; document++)
        {
            long start = offsets?.Start(document) ?? ((long)document * time);
            int length = offsets is null ? time : offsets.End(document) - offsets.Start(document);
            device.Workers.For(length, new Token
            {
                Input = x.Floats + (start * heads * dim),
                Output = y.Floats + (start * heads * dim),
                Heads = heads,
                Dim = dim,
                Position = position,
                Theta = theta,
                Sign = backwards ? -1 : 1,
                Accumulate = accumulate,
            });
        }
    }

    private struct Token : IParallelBody
    {
        public float* Input;
        public float* Output;
        public int Heads;
        public int Dim;
        public int Position;
        public double Theta;
        public int Sign;
        public bool Accumulate;

        public readonly void Run(int index, int worker)
        {
            int half = Dim / 2;
            for (int i = 0; i < half; i++)
            {
                (double sinExact, double cosExact) = Math.SinCos((Position + index) * Math.Pow(Theta, -2.0 * i / Dim));
                float sin = (float)(Sign * sinExact);
                float cos = (float)cosExact;
                for (int head = 0; head < Heads; head++)
                {
                    long low = ((((long)index * Heads) + head) * Dim) + i;
                    long high = low + half;
                    float first = (Input[low] * cos) - (Input[high] * sin);
                    float second = (Input[high] * cos) + (Input[low] * sin);
                    Output[low] = Accumulate ? Output[low] + first : first;
                    Output[high] = Accumulate ? Output[high] + second : second;
                }
            }
        }
    }
}
