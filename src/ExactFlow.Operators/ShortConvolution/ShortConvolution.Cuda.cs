using System.Runtime.InteropServices;
using ExactFlow.Cuda;
using ExactFlow.Tensors;
using ExactFlow.Tensors.Memory;

namespace ExactFlow.Operators;

public static unsafe partial class ShortConvolution
{
    /// <summary>Taps of the filters whose kernels keep inputs in registers.</summary>
    private const int Taps = 4;

    /// <summary>Threads of a block, a power of two.</summary>
    private const int Threads = 128;

    private static readonly (string Source, KernelName Name) ForwardUnits = ("short_convolution.cu", KernelName.Of("convolve_units"));
    private static readonly (string Source, KernelName Name) ForwardPackedUnits = ("short_convolution.cu", KernelName.Of("convolve_packed_units"));
    private static readonly (string Source, KernelName Name) ForwardChannels = ("short_convolution.cu", KernelName.Of("convolve_channels"));
    private static readonly (string Source, KernelName Name) ForwardAny = ("short_convolution.cu", KernelName.Of("convolve_any"));
    private static readonly (string Source, KernelName Name) CarryKernel = ("short_convolution.cu", KernelName.Of("carry"));
    private static readonly (string Source, KernelName Name) ForwardHeads64 = ("short_convolution_normalized.cu", KernelName.Of("convolve_heads_64"));
    private static readonly (string Source, KernelName Name) ForwardHeads128 = ("short_convolution_normalized.cu", KernelName.Of("convolve_heads_128"));
    private static readonly (string Source, KernelName Name) ForwardPackedHeads64 = ("short_convolution_normalized.cu", KernelName.Of("convolve_packed_heads_64"));
    private static readonly (string Source, KernelName Name) ForwardPackedHeads128 = ("short_convolution_normalized.cu", KernelName.Of("convolve_packed_heads_128"));
    private static readonly (string Source, KernelName Name) BackwardUnits = ("short_convolution_gradient.cu", KernelName.Of("gradient_units"));
    private static readonly (string Source, KernelName Name) BackwardPackedUnits = ("short_convolution_gradient.cu", KernelName.Of("gradient_packed_units"));
    private static readonly (string Source, KernelName Name) BackwardChannels = ("short_convolution_gradient.cu", KernelName.Of("gradient_channels"));
    private static readonly (string Source, KernelName Name) BackwardAnyInner = ("short_convolution_gradient.cu", KernelName.Of("gradient_any_inner"));
    private static readonly (string Source, KernelName Name) BackwardAny = ("short_convolution_gradient.cu", KernelName.Of("gradient_any"));
    private static readonly (string Source, KernelName Name) BackwardHeads64 = ("short_convolution_gradient_normalized.cu", KernelName.Of("gradient_heads_64"));
    private static readonly (string Source, KernelName Name) BackwardHeads128 = ("short_convolution_gradient_normalized.cu", KernelName.Of("gradient_heads_128"));
    private static readonly (string Source, KernelName Name) BackwardPackedHeads64 = ("short_convolution_gradient_normalized.cu", KernelName.Of("gradient_packed_heads_64"));
    private static readonly (string Source, KernelName Name) BackwardPackedHeads128 = ("short_convolution_gradient_normalized.cu", KernelName.Of("gradient_packed_heads_128"));

    private static void Forward(CudaDevice device, Tensor x, Tensor weight, Tensor? bias, in Finish finish, Tensor? state, Tensor? documents, Tensor y)
    {
        if (x.Count == 0)
        {
            return;
        }

        bool fourTaps = HasFourTaps(weight);
        bool units = fourTaps && HasUnits(x) && CudaUnits.AreAligned(x.Address, y.Address);
        var layout = new Layout(x, weight, documents, units ? Taps : 1);
        layout.Cut(shortest: 4, device.MultiprocessorCount * ((x.DType == DType.BFloat16 ? 6 : 5) - (documents is null ? 0 : 1)));

        // A thread that sees all of a sequence has its last inputs in registers.
        bool carries = state is not null && fourTaps && documents is null && x.Shape[1] <= layout.Run;
        var arguments = new ForwardArguments
        {
            Layout = layout,
            Y = y.Address,
            X = x.Address,
            Weight = weight.Address,
            Bias = bias?.Address ?? 0,
            State = state?.Address ?? 0,
            Silu = finish.Silu ? 1 : 0,
            Carries = carries ? 1 : 0,
            Epsilon = finish.Epsilon,
        };
        Launch(device, ForwardKernel(fourTaps, units, documents is not null, finish.HeadDim), x.DType, layout.Geometry, arguments);
        if (state is { Count: > 0 } && !carries)
        {
            Carry(device, x, state, documents);
        }
    }

    private static void Launch<T>(CudaDevice device, (string Source, KernelName Name) kernel, DType type, LaunchGeometry geometry, in T arguments)
        where T : unmanaged
        => CudaLaunch.Run(device, kernel.Source, kernel.Name, type, geometry, arguments);

    private static (string Source, KernelName Name) ForwardKernel(bool fourTaps, bool units, bool packed, int headDim) => (fourTaps, units, packed, headDim) switch
    {
        (_, _, false, 64) => ForwardHeads64,
        (_, _, false, 128) => ForwardHeads128,
        (_, _, true, 64) => ForwardPackedHeads64,
        (_, _, true, 128) => ForwardPackedHeads128,
        (_, true, false, _) => ForwardUnits,
        (_, true, true, _) => ForwardPackedUnits,
        (true, _, _, _) => ForwardChannels,
        _ => ForwardAny,
    };

    private static (string Source, KernelName Name) BackwardKernel(bool fourTaps, bool units, bool packed, int headDim) => (fourTaps, units, packed, headDim) switch
    {
        (_, _, false, 64) => BackwardHeads64,
        (_, _, false, 128) => BackwardHeads128,
        (_, _, true, 64) => BackwardPackedHeads64,
        (_, _, true, 128) => BackwardPackedHeads128,
        (_, true, false, _) => BackwardUnits,
        (_, true, true, _) => BackwardPackedUnits,
        (true, _, _, _) => BackwardChannels,
        _ => BackwardAny,
    };

    /// <summary>
    /// Whether a kernel scales heads to unit length as it writes them: they must lie in the threads of one warp, four channels each, and no warp may be divided.
    /// </summary>
    private static bool NormalizesInOnePass(Tensor x, Tensor weight, int headDim)
        => headDim is 64 or 128 && x.Shape[2] % 128 == 0 && HasFourTaps(weight) && CudaUnits.AreAligned(x.Address);

    /// <summary>Replaces each sequence's state by the last width - 1 inputs of state and x together, after everybody has read it.</summary>
    private static void Carry(CudaDevice device, Tensor x, Tensor state, Tensor? documents)
    {
        var arguments = new CarryArguments
        {
            State = state.Address,
            X = x.Address,
            Offsets = documents?.Address ?? 0,
            Time = x.Shape[1],
            Count = (long)state.Shape[0] * x.Shape[2],
            Channels = x.Shape[2],
            Kept = state.Shape[2],
        };
        Launch(device, CarryKernel, x.DType, CudaLaunch.Grid(device, arguments.Count, Threads), arguments);
    }

    private static void Backward(
        CudaDevice device,
        Tensor x,
        Tensor weight,
        Tensor? bias,
        in Finish finish,
        Tensor? documents,
        Tensor outputGradient,
        CudaTarget inputGradient,
        CudaTarget weightGradient,
        CudaTarget biasGradient)
    {
        bool fourTaps = HasFourTaps(weight);
        bool units = fourTaps && HasUnits(x) && CudaUnits.AreAligned(x.Address, outputGradient.Address, inputGradient.Address);
        if (finish.HeadDim > 0 && !units)
        {
            throw new InvalidOperationException($"The gradient of {x} after scaling heads of {finish.HeadDim} came at an address that is no multiple of 16 bytes.");
        }

        var layout = new Layout(x, weight, documents, units ? Taps : 1);
        layout.Cut(shortest: 16, device.MultiprocessorCount * ((x.DType == DType.BFloat16 ? 4 : 3) - (documents is null ? 0 : 1)));
        bool sums = weightGradient.IsWanted || biasGradient.IsWanted;
        int columns = checked((layout.Width + 1) * layout.Channels);

        // Kernels of four taps add up the runs of a block before they leave the sums.
        long partials = x.Count == 0 ? 0 : fourTaps ? layout.Geometry.GridX : layout.Runs;
        using var partial = new Scratch(device, sums ? partials * columns * sizeof(float) : 0);
        using var inner = new Scratch(device, fourTaps ? 0 : x.Count * sizeof(float));
        var arguments = new GradientArguments
        {
            Layout = layout,
            InputGradient = inputGradient,
            OutputGradient = outputGradient.Address,
            X = x.Address,
            Weight = weight.Address,
            Bias = bias?.Address ?? 0,
            Partial = sums ? partial.Address : 0,
            Inner = inner.Address,
            Silu = finish.Silu ? 1 : 0,
            Epsilon = finish.Epsilon,
        };
        if (x.Count > 0)
        {
            if (!fourTaps)
            {
                Launch(device, BackwardAnyInner, x.DType, layout.Geometry, arguments);
            }

            Launch(device, BackwardKernel(fourTaps, units, documents is not null, finish.HeadDim), x.DType, layout.Geometry, arguments);
        }

        if (sums)
        {
            CudaFold.Run(device, partial.Address, partials, columns, layout.Width * layout.Channels, weightGradient, biasGradient);
        }
    }

    /// <summary>Four taps, each channel's in one access.</summary>
    private static bool HasFourTaps(Tensor weight) => weight.Shape[1] == Taps && CudaUnits.AreAligned(weight.Address);

    /// <summary>Whether tokens are made of units of four channels.</summary>
    private static bool HasUnits(Tensor x) => x.Shape[2] % Taps == 0;

    /// <summary>Who works on which tokens and channels; <c>Layout</c> of short_convolution.cuh.</summary>
    [StructLayout(LayoutKind.Sequential)]
    private struct Layout
    {
        public nint Offsets;
        public long Time, Runs, RunsPerRow;
        public int Documents, Run, Channels, Width, Units, Shift;
        private readonly long rows;

        public Layout(Tensor x, Tensor weight, Tensor? documents, int channelsPerThread)
        {
            rows = x.Shape[0];
            Offsets = documents?.Address ?? 0;
            Documents = documents is null ? 0 : documents.Shape[0] - 1;
            (Time, Channels, Width) = (x.Shape[1], x.Shape[2], weight.Shape[1]);
            Units = Channels / channelsPerThread;
            while (1 << Shift < Units && 1 << Shift < Threads)
            {
                Shift++;
            }
        }

        /// <summary>A block covers 2^Shift units and as many runs as it has threads for.</summary>
        public readonly LaunchGeometry Geometry
            => new(checked((int)((Runs + (Threads >> Shift) - 1) / (Threads >> Shift))), (Units + (1 << Shift) - 1) >> Shift, 1, Threads, 1, 1, 0);

        /// <summary>
        /// Cuts rows into runs of a multiple of four tokens, as short as leaves all blocks room on the GPU at once: it is full, nobody waits for a few last
        /// blocks, and what runs repeat at their edges, or leave behind as sums, is little.
        /// </summary>
        /// <param name="shortest">Tokens that a run has at least.</param>
        /// <param name="blocks">Blocks that fit on the GPU.</param>
        public void Cut(int shortest, long blocks)
        {
            int lanes = Threads >> Shift, tiles = (Units + (1 << Shift) - 1) >> Shift;
            long runsPerRow = Math.Max(1, blocks / tiles * lanes / Math.Max(rows, 1));
            Run = (int)Math.Max((((Time + runsPerRow - 1) / runsPerRow) + 3) & ~3L, shortest);
            RunsPerRow = (Time + Run - 1) / Run;
            Runs = rows * RunsPerRow;
        }
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct ForwardArguments
    {
        public Layout Layout;
        public nint Y, X, Weight, Bias, State;
        public int Silu, Carries;
        public float Epsilon;
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct CarryArguments
    {
        public nint State, X, Offsets;
        public long Time, Count;
        public int Channels, Kept;
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct GradientArguments
    {
        public Layout Layout;
        public CudaTarget InputGradient;
        public nint OutputGradient, X, Weight, Bias, Partial, Inner;
        public int Silu;
        public float Epsilon;
    }
}
