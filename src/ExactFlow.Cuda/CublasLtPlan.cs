using ExactFlow.Tensors;
using static ExactFlow.Cuda.CublasLtImports;

namespace ExactFlow.Cuda;

/// <summary>cuBLASLt's descriptions of one kind of product, and the algorithm it chose.</summary>
internal sealed unsafe class CublasLtPlan : IDisposable
{
    private nint bias;

    private CublasLtPlan()
    {
    }

    /// <summary>cublasLtMatmulDesc_t.</summary>
    public nint Product { get; private set; }

    /// <summary>Layout of the left operand.</summary>
    public nint LayoutA { get; private set; }

    /// <summary>Layout of the right operand.</summary>
    public nint LayoutB { get; private set; }

    /// <summary>Layout of the result.</summary>
    public nint LayoutC { get; private set; }

    /// <summary>The algorithm.</summary>
    public Heuristic Heuristic { get; private set; }

    /// <summary>Asks the library for an algorithm; null when it has none, with what it says.</summary>
    public static CublasLtPlan? TryMake(nint handle, in CublasLtKey key, nint bias, long workspaceBytes, CublasLtProducts products, out int status)
    {
        var plan = new CublasLtPlan();
        try
        {
            plan.Describe(key, bias, products);
            if (plan.TryChoose(handle, key, workspaceBytes, products, out status))
            {
                return plan;
            }
        }
        catch
        {
            plan.Dispose();
            throw;
        }

        plan.Dispose();
        return null;
    }

    /// <summary>Points the product to its bias, where it has one.</summary>
    public void SetBias(nint address, CublasLtProducts products)
    {
        if (address != bias)
        {
            products.Check(ProductSet(Product, ProductAttribute.BiasPointer, &address, (nuint)sizeof(nint)), "cublasLtMatmulDescSetAttribute", "bias");
            bias = address;
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        foreach (nint layout in (ReadOnlySpan<nint>)[LayoutA, LayoutB, LayoutC])
        {
            if (layout != 0)
            {
                _ = LayoutDestroy(layout);
            }
        }

        if (Product != 0)
        {
            _ = ProductDestroy(Product);
        }

        LayoutA = LayoutB = LayoutC = Product = 0;
    }

    private static int NumberOf(DType type) => type switch
    {
        DType.Float32 => CublasLtImports.Float32,
        DType.BFloat16 => CublasLtImports.BFloat16,
        _ => throw new ArgumentException($"Matrix products are of Float32 or BFloat16, not {type}.", nameof(type)),
    };

    /// <summary>A stored row-major matrix [rows, columns] is, column by column, the matrix [columns, rows].</summary>
    private static nint Layout(DType type, int rows, int columns, CublasLtKey.Side side, int batches, CublasLtProducts products)
    {
        long stride = side.BatchStride;
        products.Check(LayoutCreate(out nint layout, NumberOf(type), (ulong)columns, (ulong)rows, Math.Max(side.Stride, columns)), "cublasLtMatrixLayoutCreate", $"[{rows}, {columns}]");
        int status = batches == 1 ? 0 : LayoutSet(layout, LayoutAttribute.BatchCount, &batches, sizeof(int));
        status = batches == 1 || status != 0 ? status : LayoutSet(layout, LayoutAttribute.BatchStride, &stride, sizeof(long));
        if (status != 0)
        {
            _ = LayoutDestroy(layout);
            products.Check(status, "cublasLtMatrixLayoutSetAttribute", $"{batches} of [{rows}, {columns}]");
        }

        return layout;
    }

    private void Describe(in CublasLtKey key, nint biasAddress, CublasLtProducts products)
    {
        products.Check(ProductCreate(out nint product, ComputeFloat32, CublasLtImports.Float32), "cublasLtMatmulDescCreate", key.ToString());
        Product = product;
        int transpose = Transpose;
        if (key.B.Transposed)
        {
            Set(ProductAttribute.TransposeA, &transpose, sizeof(int), products);
        }

        if (key.A.Transposed)
        {
            Set(ProductAttribute.TransposeB, &transpose, sizeof(int), products);
        }

        if (key.HasBias)
        {
            int epilogue = EpilogueBias, type = NumberOf(key.BiasType);
            Set(ProductAttribute.Epilogue, &epilogue, sizeof(int), products);
            Set(ProductAttribute.BiasType, &type, sizeof(int), products);
            SetBias(biasAddress, products);
        }

        LayoutA = key.A.Transposed ? Layout(key.Type, key.Depth, key.Rows, key.A, key.Batches, products) : Layout(key.Type, key.Rows, key.Depth, key.A, key.Batches, products);
        LayoutB = key.B.Transposed ? Layout(key.Type, key.Columns, key.Depth, key.B, key.Batches, products) : Layout(key.Type, key.Depth, key.Columns, key.B, key.Batches, products);
        LayoutC = Layout(key.TypeOfC, key.Rows, key.Columns, key.C, key.Batches, products);
    }

    private void Set(ProductAttribute attribute, void* value, int bytes, CublasLtProducts products)
        => products.Check(ProductSet(Product, attribute, value, (nuint)bytes), "cublasLtMatmulDescSetAttribute", attribute.ToString());

    private bool TryChoose(nint handle, in CublasLtKey key, long workspaceBytes, CublasLtProducts products, out int status)
    {
        products.Check(PreferenceCreate(out nint preference), "cublasLtMatmulPreferenceCreate", key.ToString());
        try
        {
            ulong workspace = (ulong)workspaceBytes;
            int reductions = ReduceInComputeType;
            products.Check(PreferenceSet(preference, PreferenceAttribute.MaxWorkspaceBytes, &workspace, sizeof(ulong)), "cublasLtMatmulPreferenceSetAttribute", "workspace");
            products.Check(PreferenceSet(preference, PreferenceAttribute.ReductionSchemes, &reductions, sizeof(int)), "cublasLtMatmulPreferenceSetAttribute", "reductions");

            // The library's A is our B, see CublasLtProducts.Multiply.
            ReadOnlySpan<(PreferenceAttribute Attribute, int Bytes)> alignments =
            [
                (PreferenceAttribute.AlignmentOfA, key.B.Alignment),
                (PreferenceAttribute.AlignmentOfB, key.A.Alignment),
                (PreferenceAttribute.AlignmentOfC, key.C.Alignment),
                (PreferenceAttribute.AlignmentOfD, key.C.Alignment),
            ];
            foreach ((PreferenceAttribute attribute, int bytes) in alignments)
            {
                int value = bytes;
                products.Check(PreferenceSet(preference, attribute, &value, sizeof(int)), "cublasLtMatmulPreferenceSetAttribute", attribute.ToString());
            }

            Heuristic heuristic = default;
            status = GetHeuristic(handle, Product, LayoutB, LayoutA, LayoutC, LayoutC, preference, 1, &heuristic, out int found);
            status = status == 0 && found > 0 ? heuristic.Status : status;
            Heuristic = heuristic;
            return status == 0 && found > 0;
        }
        finally
        {
            _ = PreferenceDestroy(preference);
        }
    }
}
