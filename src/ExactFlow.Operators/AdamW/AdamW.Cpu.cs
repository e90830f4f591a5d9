using System.Runtime.CompilerServices;
using ExactFlow.Tensors;
using ExactFlow.Tensors.Memory;
using ExactFlow.Tensors.Simd;

namespace ExactFlow.Operators;

public sealed unsafe partial class AdamW
{
    private void Update(CpuDevice cpu, float gradientScale)
    {
        int count = ParameterChunk.Count(Parameters);
        using var chunkMemory = new Scratch(cpu, (long)count * sizeof(ParameterChunk));
        using var stateMemory = new Scratch(cpu, (long)Parameters.Count * sizeof(State));
        var chunks = (ParameterChunk*)chunkMemory.Address;
        var states = (State*)stateMemory.Address;
        ParameterChunk.Fill(Parameters, chunks);
        for (int i = 0; i < Parameters.Count; i++)
        {
            states[i] = new State
            {
                Value = Parameters[i].Value.Floats,
                First = firstMoments[i].Floats,
                Second = secondMoments[i].Floats,
                Shrink = Parameters[i].WeightDecay ? factors.Shrink : 1,
            };
        }

        Simd.For(cpu.Workers, count, new ChunkUpdate
        {
            Chunks = chunks,
            States = states,
            GradientScale = gradientScale,
            Beta1 = (float)Options.Beta1,
            Rest1 = (float)(1 - Options.Beta1),
            Beta2 = (float)Options.Beta2,
            Rest2 = (float)(1 - Options.Beta2),
            Epsilon = (float)Options.Epsilon,
            StepSize = factors.StepSize,
            RootCorrection = factors.RootCorrection,
        });
    }

    /// <summary>Where a parameter's arrays are, and the factor by which decay shrinks it.</summary>
    private struct State
    {
        public float* Value;
        public float* First;
        public float* Second;
        public float Shrink;
    }

    private struct ChunkUpdate : IVectorBody
    {
        public ParameterChunk* Chunks;
        public State* States;
        public float GradientScale;
        public float Beta1;
        public float Rest1;
        public float Beta2;
        public float Rest2;
        public float Epsilon;
        public float StepSize;
        public float RootCorrection;

        [MethodImpl(MethodImplOptions.AggressiveOptimization)]
        public readonly void Run<TV>(int index, int worker)
            where TV : struct, IFloatVector<TV>
        {
            ParameterChunk chunk = Chunks[index];
            State state = States[chunk.Parameter];
            float* value = state.Value + chunk.Start;
            float* gradient = chunk.Gradient;
            float* first = state.First + chunk.Start;
            float* second = state.Second + chunk.Start;
            int i = 0;
            for (; i + TV.Count <= chunk.Length; i += TV.Count)
            {
                TV m = TV.Load(first + i);
                TV v = TV.Load(second + i);
                One(TV.Load(value + i), TV.Load(gradient + i), ref m, ref v, state.Shrink).Store(value + i);
                m.Store(first + i);
                v.Store(second + i);
            }

            int rest = chunk.Length - i;
            if (rest > 0)
            {
                TV m = TV.LoadPartial(first + i, rest);
                TV v = TV.LoadPartial(second + i, rest);
                One(TV.LoadPartial(value + i, rest), TV.LoadPartial(gradient + i, rest), ref m, ref v, state.Shrink).StorePartial(value + i, rest);
                m.StorePartial(first + i, rest);
                v.StorePartial(second + i, rest);
            }
        }

        /// <summary>The new values of one vector of parameters; the moments are updated in place.</summary>
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        private readonly TV One<TV>(TV value, TV gradient, ref TV m, ref TV v, float shrink)
            where TV : struct, IFloatVector<TV>
        {
            TV g = gradient * TV.Broadcast(GradientScale);
            m = TV.MultiplyAdd(TV.Broadcast(Beta1), m, g * TV.Broadcast(Rest1));
            v = TV.MultiplyAdd(TV.Broadcast(Beta2), v, g * (g * TV.Broadcast(Rest2)));
            TV denominator = TV.MultiplyAdd(TV.Sqrt(v), TV.Broadcast(RootCorrection), TV.Broadcast(Epsilon));
            return TV.NegatedMultiplyAdd(TV.Broadcast(StepSize), m / denominator, value * TV.Broadcast(shrink));
        }
    }
}
