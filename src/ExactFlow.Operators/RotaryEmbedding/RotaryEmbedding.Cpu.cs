using System.Runtime.CompilerServices;
using ExactFlow.Tensors;
using ExactFlow.Tensors.Memory;
using ExactFlow.Tensors.Simd;

namespace ExactFlow.Operators;

public static unsafe partial class RotaryEmbedding
{
    private static void Rotate(CpuDevice device, Tensor x, Tensor y, int position, float theta, SequenceOffsets? offsets, bool backwards, bool accumulate)
    {
        (int batch, int time, int heads, int dim) = (x.Shape[0], x.Shape[1], x.Shape[2], x.Shape[3]);
        int half = dim / 2;
        using var memory = new Scratch(device, (half * sizeof(double)) + (device.Workers.WorkerCount * RotateBlock.Work(half)));
        var frequencies = (double*)memory.Address;
        for (int i = 0; i < half; i++)
        {
            frequencies[i] = (backwards ? -1 : 1) * Math.Pow(theta, -2.0 * i / dim);
        }

        var body = new RotateBlock
        {
            Heads = heads,
            Half = half,
            Position = position,
            Frequencies = frequencies,
            Memory = (byte*)(frequencies + half),
            Accumulate = accumulate,
        };
        if (offsets is null)
        {
            body.Run(device, x.Floats, y.Floats, batch, time);
            return;
        }

        for (int document = 0; document < offsets.Count; document++)
        {
            long start = (long)offsets.Start(document) * heads * dim;
            body.Run(device, x.Floats + start, y.Floats + start, 1, offsets.End(document) - offsets.Start(document));
        }
    }

    /// <summary>
    /// A block of consecutive positions of one row. The angles' sines and cosines are computed exactly (float64) at the first position and
    /// turned by one position's angle from there: the error of 64 turns stays near 1e-14, and two sines per pair and block are all that is computed.
    /// </summary>
    private struct RotateBlock : IVectorBody
    {
        private const int Positions = 64;

        public int Heads;
        public int Half;
        public int Position;
        public double* Frequencies;
        public byte* Memory;
        public bool Accumulate;
        private float* input;
        private float* output;
        private int time;
        private int blocksPerRow;

        /// <summary>Bytes of one worker: float64 cosines and sines of the position and of one step, float32 cosines and sines.</summary>
        public static long Work(int half) => half * ((4L * sizeof(double)) + (2 * sizeof(float)));

        public void Run(CpuDevice device, float* source, float* destination, int rows, int length)
        {
            input = source;
            output = destination;
            time = length;
            blocksPerRow = (length + Positions - 1) / Positions;
            Simd.For(device.Workers, rows * blocksPerRow, this);
        }

        public readonly void Run<TV>(int index, int worker)
            where TV : struct, IFloatVector<TV>
        {
            int first = index % blocksPerRow * Positions;
            int last = Math.Min(first + Positions, time);
            long token = ((long)(index / blocksPerRow) * time) + first;
            var work = (double*)(Memory + (worker * Work(Half)));
            var cosines = (float*)(work + (4 * Half));
            float* sines = cosines + Half;
            for (int i = 0; i < Half; i++)
            {
                (work[Half + i], work[i]) = Math.SinCos((Position + first) * Frequencies[i]);
                (work[(3 * Half) + i], work[(2 * Half) + i]) = Math.SinCos(Frequencies[i]);
            }

            for (int t = first; t < last; t++, token++)
            {
                Turn(work, cosines, sines);
                for (int head = 0; head < Heads; head++)
                {
                    long offset = ((token * Heads) + head) * 2 * Half;
                    RotateHead<TV>(input + offset, output + offset, cosines, sines);
                }
            }
        }

        /// <summary>Rounds the current cosines and sines to float32 and moves on by one position.</summary>
        private readonly void Turn(double* work, float* cosines, float* sines)
        {
            for (int i = 0; i < Half; i++)
            {
                double cos = work[i];
                double sin = work[Half + i];
                cosines[i] = (float)cos;
                sines[i] = (float)sin;
                work[i] = (cos * work[(2 * Half) + i]) - (sin * work[(3 * Half) + i]);
                work[Half + i] = (sin * work[(2 * Half) + i]) + (cos * work[(3 * Half) + i]);
            }
        }

        [MethodImpl(MethodImplOptions.AggressiveOptimization | MethodImplOptions.NoInlining)]
        private readonly void RotateHead<TV>(float* x, float* y, float* cosines, float* sines)
            where TV : struct, IFloatVector<TV>
        {
            for (int i = 0; i < Half; i += TV.Count)
            {
                int lanes = Math.Min(TV.Count, Half - i);
                TV cos = TV.LoadPartial(cosines + i, lanes);
                TV sin = TV.LoadPartial(sines + i, lanes);
                TV low = TV.LoadPartial(x + i, lanes);
                TV high = TV.LoadPartial(x + Half + i, lanes);
                TV newLow = TV.NegatedMultiplyAdd(high, sin, low * cos);
                TV newHigh = TV.MultiplyAdd(low, sin, high * cos);
                if (Accumulate)
                {
                    newLow += TV.LoadPartial(y + i, lanes);
                    newHigh += TV.LoadPartial(y + Half + i, lanes);
                }

                newLow.StorePartial(y + i, lanes);
                newHigh.StorePartial(y + Half + i, lanes);
            }
        }
    }
}
