using System.Runtime.CompilerServices;
using ExactFlow.Tensors.Parallel;

namespace ExactFlow.Tensors.Simd;

/// <summary>
/// Applies an operator to every element of arrays: one loop for all operators, widths and tails, parallel over the workers in blocks
/// whose bounds depend on the count only. Inputs and output may be the same array, but must not overlap otherwise.
/// </summary>
public static unsafe class ElementwiseLoop
{
    /// <summary>Elements per parallel block: large enough to hide the start of a loop, small enough to balance two unequal cores.</summary>
    private const int Block = 16 * 1024;

    /// <summary>y[i] = f(x[i]) for i in [0, count).</summary>
    public static void Run<TOperator>(WorkerPool workers, float* x, float* y, long count, TOperator f)
        where TOperator : struct, IUnaryOperator
        => Simd.For(workers, Blocks(count), new Body<UnaryAsTernary<TOperator>>(x, x, x, y, count, new(f)));

    /// <summary>y[i] = f(a[i], b[i]) for i in [0, count).</summary>
    public static void Run<TOperator>(WorkerPool workers, float* a, float* b, float* y, long count, TOperator f)
        where TOperator : struct, IBinaryOperator
        => Simd.For(workers, Blocks(count), new Body<BinaryAsTernary<TOperator>>(a, b, a, y, count, new(f)));

    /// <summary>y[i] = f(a[i], b[i], c[i]) for i in [0, count).</summary>
    public static void Run<TOperator>(WorkerPool workers, float* a, float* b, float* c, float* y, long count, TOperator f)
        where TOperator : struct, ITernaryOperator
        => Simd.For(workers, Blocks(count), new Body<TOperator>(a, b, c, y, count, f));

    private static int Blocks(long count) => checked((int)((count + Block - 1) / Block));

    /// <summary>The loop itself. Loads whose value the operator ignores cost nothing: the compiler drops them.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void RunBlock<TV, TOperator>(float* a, float* b, float* c, float* y, int count, TOperator f)
        where TV : struct, IFloatVector<TV>
        where TOperator : struct, ITernaryOperator
    {
        int i = 0;
        for (; i + (2 * TV.Count) <= count; i += 2 * TV.Count)
        {
            TV first = f.Apply(TV.Load(a + i), TV.Load(b + i), TV.Load(c + i));
            TV second = f.Apply(TV.Load(a + i + TV.Count), TV.Load(b + i + TV.Count), TV.Load(c + i + TV.Count));
            first.Store(y + i);
            second.Store(y + i + TV.Count);
        }

        for (; i + TV.Count <= count; i += TV.Count)
        {
            f.Apply(TV.Load(a + i), TV.Load(b + i), TV.Load(c + i)).Store(y + i);
        }

        int rest = count - i;
        if (rest > 0)
        {
            f.Apply(TV.LoadPartial(a + i, rest), TV.LoadPartial(b + i, rest), TV.LoadPartial(c + i, rest)).StorePartial(y + i, rest);
        }
    }

    private readonly struct Body<TOperator>(float* a, float* b, float* c, float* y, long count, TOperator f) : IVectorBody
        where TOperator : struct, ITernaryOperator
    {
        public void Run<TV>(int index, int worker)
            where TV : struct, IFloatVector<TV>
        {
            long start = (long)index * Block;
            RunBlock<TV, TOperator>(a + start, b + start, c + start, y + start, (int)Math.Min(Block, count - start), f);
        }
    }

    private readonly struct UnaryAsTernary<TOperator>(TOperator f) : ITernaryOperator
        where TOperator : struct, IUnaryOperator
    {
        private readonly TOperator f = f;

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public TV Apply<TV>(TV a, TV b, TV c)
            where TV : struct, IFloatVector<TV>
            => f.Apply(a);
    }

    private readonly struct BinaryAsTernary<TOperator>(TOperator f) : ITernaryOperator
        where TOperator : struct, IBinaryOperator
    {
        private readonly TOperator f = f;

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public TV Apply<TV>(TV a, TV b, TV c)
            where TV : struct, IFloatVector<TV>
            => f.Apply(a, b);
    }
}
