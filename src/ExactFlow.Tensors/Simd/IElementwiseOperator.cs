namespace ExactFlow.Tensors.Simd;

/// <summary>y = f(x), element by element: a struct that may hold parameters, run by <see cref="ElementwiseLoop"/>.</summary>
public interface IUnaryOperator
{
    /// <summary>The function of one vector. Mark it for aggressive inlining: it is the body of the loop.</summary>
    TV Apply<TV>(TV x)
        where TV : struct, IFloatVector<TV>;
}

/// <summary>y = f(a, b), element by element: a struct that may hold parameters, run by <see cref="ElementwiseLoop"/>.</summary>
public interface IBinaryOperator
{
    /// <summary>The function of two vectors. Mark it for aggressive inlining.</summary>
    TV Apply<TV>(TV a, TV b)
        where TV : struct, IFloatVector<TV>;
}

/// <summary>y = f(a, b, c), element by element: a struct that may hold parameters, run by <see cref="ElementwiseLoop"/>.</summary>
public interface ITernaryOperator
{
    /// <summary>The function of three vectors. Mark it for aggressive inlining.</summary>
    TV Apply<TV>(TV a, TV b, TV c)
        where TV : struct, IFloatVector<TV>;
}
