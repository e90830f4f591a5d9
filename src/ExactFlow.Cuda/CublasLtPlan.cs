using ExactFlow.Tensors;
using static ExactFlow.Cuda.CublasLtImports;

namespace ExactFlow.Cuda;

/// <summary>cuBLASLt's descriptions of one kind of product, the algorithms it proposes, and the chosen one.</summary>
internal sealed unsafe class CublasLtPlan : IDisposable
{
    /// <summary>Of cublasLtMatmulAlgo_t.</summary>
    private const int AlgorithmBytes = 64;

    private Heuristic[] candidates = [];
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

    /// <summary>The algorithm to use: the library's first proposal until another is chosen.</summary>
    public Heuristic Heuristic { get; private set; }

    /// <summary>What the library proposes, what it expects to be the fastest first.</summary>
    public ReadOnlySpan<Heuristic> Candidates => candidates;

    /// <summary>Asks the library for algorithms; null when it has none, with what it says.</summary>
    public static CublasLtPlan? TryMake(nint handle, in CublasLtKey key, nint bias, long workspaceBytes, int wanted, CublasLtProducts products, out int status)
    {
        var plan = new CublasLtPlan();
        try
        {
            plan.Describe(key, bias, products);
            if (plan.TryAsk(handle, key, workspaceBytes, wanted, products, out status))
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

    /// <summary>Uses one of the candidates from now on.</summary>
    public void Choose(int candidate) => Heuristic = candidates[candidate];

    /// <summary>The chosen algorithm as bytes that a process with the same version of the library can <see cref="TryChoose(nint, ReadOnlySpan{byte}, long)"/> again.</summary>
    public byte[] Save()
    {
        Heuristic chosen = Heuristic;
        return [.. new ReadOnlySpan<byte>(chosen.Algorithm, AlgorithmBytes)];
    }

    /// <summary>Uses an algorithm that was saved; false when the library does not take it for this product, or it wants more workspace.</summary>
    public bool TryChoose(nint handle, ReadOnlySpan<byte> saved, long workspaceBytes)
    {
        if (saved.Length != AlgorithmBytes)
        {
            return false;
        }

        Heuristic heuristic = default, result = default;
        saved.CopyTo(new Span<byte>(heuristic.Algorithm, AlgorithmBytes));
        if (CublasLtImports.Check(handle, Product, LayoutB, LayoutA, LayoutC, LayoutC, heuristic.Algorithm, &result) != 0 || result.WorkspaceBytes > (nuint)workspaceBytes)
        {
            return false;
        }

        heuristic.WorkspaceBytes = result.WorkspaceBytes;
        Heuristic = heuristic;
        return true;
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

    private bool TryAsk(nint handle, in CublasLtKey key, long workspaceBytes, int wanted, CublasLtProducts products, out int status)
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

            var proposals = new Heuristic[wanted];
            int found;
            fixed (Heuristic* first = proposals)
            {
                status = GetHeuristic(handle, Product, LayoutB, LayoutA, LayoutC, LayoutC, preference, wanted, first, out found);
            }

            candidates = status == 0 ? [.. proposals.Take(found).Where(proposal => proposal.Status == 0)] : [];
            status = status == 0 && found > 0 ? proposals[0].Status : status;
            Heuristic = candidates.FirstOrDefault();
            return candidates.Length > 0;
        }
        finally
        {
            _ = PreferenceDestroy(preference);
        }
    }
}
