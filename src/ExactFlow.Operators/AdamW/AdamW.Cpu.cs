using ExactFlow.Tensors;
using ExactFlow.Tensors.Parallel;

namespace ExactFlow.Operators;

public sealed unsafe partial class AdamW
{
    private void Update(CpuDevice cpu, float learningRate, float gradientScale)
    {
        double correction1 = 1 - Math.Pow(Options.Beta1, StepCount);
        double correction2 = 1 - Math.Pow(Options.Beta2, StepCount);
        for (int i = 0; i < Parameters.Count; i++)
        {
            Parameter parameter = Parameters[i];
            if (parameter.Value.Grad is not { } gradient)
            {
                continue;
            }

            int blocks = checked((int)((gradient.Count + Block.Length - 1) / Block.Length));
            cpu.Workers.For(blocks, new Block
            {
                Value = parameter.Value.Floats,
                Gradient = gradient.Floats,
                First = firstMoments[i].Floats,
                Second = secondMoments[i].Floats,
                Count = gradient.Count,
                GradientScale = gradientScale,
                Beta1 = Options.Beta1,
                Beta2 = Options.Beta2,
                Epsilon = Options.Epsilon,
                Keep = parameter.WeightDecay ? (float)(1 - ((double)learningRate * Options.WeightDecay)) : 1,
                StepSize = (float)(learningRate / correction1),
                RootCorrection = (float)(1 / Math.Sqrt(correction2)),
            });
        }
    }

    private struct Block : IParallelBody
    {
        public const int Length = 1 << 14;

        public float* Value;
        public float* Gradient;
        public float* First;
        public float* Second;
        public long Count;
        public float GradientScale;
        public float Beta1;
        public float Beta2;
        public float Epsilon;
        public float Keep;
        public float StepSize;
        public float RootCorrection;

        public readonly void Run(int index, int worker)
        {
            long first = (long)index * Length;
            long end = Math.Min(first + Length, Count);
            for (long i = first; i < end; i++)
            {
                float g = GradientScale * Gradient[i];
                float m = First[i] + ((1 - Beta1) * (g - First[i]));
                float v = (Beta2 * Second[i]) + ((1 - Beta2) * g * g);
                First[i] = m;
                Second[i] = v;
                Value[i] = (Keep * Value[i]) - (StepSize * m / ((MathF.Sqrt(v) * RootCorrection) + Epsilon));
            }
        }
    }
}
