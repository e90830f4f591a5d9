using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using ExactFlow.Cuda;
using ExactFlow.Tensors;

namespace ExactFlow.Operators;

public static unsafe partial class Split
{
    private const string CudaSource = "split.cu";

    /// <summary>Parts that one launch takes, as in split.cu.</summary>
    private const int PartsPerLaunch = 16;

    private static readonly KernelName AddedPieces = KernelName.Of("join_added_pieces");
    private static readonly KernelName AddedElements = KernelName.Of("join_added_elements");

    private static void Forward(CudaDevice device, Tensor x, Tensor[] parts)
    {
        if (x.Count == 0)
        {
            return;
        }

        int bytes = UnitBytes(x, x.Address, parts, null);
        string kernel = bytes switch { 16 => "split_16", 8 => "split_8", 4 => "split_4", _ => "split_2" };
        int column = 0;
        for (int first = 0; first < parts.Length; first += PartsPerLaunch)
        {
            Arguments arguments = Prepare(x, x.Address, parts, null, first, bytes, ref column);
            CudaLaunch.Run(device, CudaSource, kernel, arguments.Columns.Geometry(device), arguments);
        }
    }

    private static void Backward(CudaDevice device, Tensor x, Tensor[] parts, CudaTarget gradient)
    {
        if (x.Count == 0)
        {
            return;
        }

        Tensor?[] gradients = Array.ConvertAll(parts, part => part.Grad);
        int bytes = UnitBytes(x, gradient.Address, parts, gradients);
        bool pieces = bytes == 16;
        if (gradient.Accumulates && !pieces)
        {
            bytes = x.DType.Size();
        }

        string kernel = bytes switch { 16 => "join_16", 8 => "join_8", 4 => "join_4", _ => "join_2" };
        int column = 0;
        for (int first = 0; first < parts.Length; first += PartsPerLaunch)
        {
            Arguments arguments = Prepare(x, gradient.Address, parts, gradients, first, bytes, ref column);
            LaunchGeometry geometry = arguments.Columns.Geometry(device);
            if (gradient.Accumulates)
            {
                CudaLaunch.Run(device, CudaSource, pieces ? AddedPieces : AddedElements, x.DType, geometry, arguments);
            }
            else
            {
                CudaLaunch.Run(device, CudaSource, kernel, geometry, arguments);
            }
        }
    }

    /// <summary>The widest unit, in bytes, that all rows and parts are made of.</summary>
    private static int UnitBytes(Tensor x, nint whole, Tensor[] parts, Tensor?[]? gradients)
    {
        int size = x.DType.Size();
        long all = whole | (long)x.Shape[^1] * size;
        for (int i = 0; i < parts.Length; i++)
        {
            all |= (long)parts[i].Shape[^1] * size | (gradients is null ? parts[i].Address : gradients[i]?.Address ?? 0);
        }

        return (int)Math.Min(all & -all, 16);
    }

    /// <summary>Up to <see cref="PartsPerLaunch"/> parts from <paramref name="first"/> on, with their columns counted from the first of them.</summary>
    private static Arguments Prepare(Tensor x, nint whole, Tensor[] parts, Tensor?[]? gradients, int first, int bytes, ref int column)
    {
        int elements = bytes / x.DType.Size();
        var arguments = new Arguments { Whole = whole + ((nint)column * bytes), Stride = x.Shape[^1] / elements, Count = Math.Min(parts.Length - first, PartsPerLaunch) };
        int units = 0;
        for (int i = 0; i < arguments.Count; i++)
        {
            Tensor part = parts[first + i];
            int width = part.Shape[^1] / elements;
            arguments.Parts[i] = new Part { At = gradients is null ? part.Address : gradients[first + i]?.Address ?? 0, First = units, Width = width };
            units += width;
        }

        column += units;
        arguments.Columns = new CudaColumns(x.Shape.RowCount(), units);
        return arguments;
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct Part
    {
        public nint At;
        public long First, Width;
    }

    [InlineArray(PartsPerLaunch)]
    private struct PartList
    {
        private Part first;
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct Arguments
    {
        public nint Whole;
        public long Stride;
        public CudaColumns Columns;
        public long Count;
        public PartList Parts;
    }
}
