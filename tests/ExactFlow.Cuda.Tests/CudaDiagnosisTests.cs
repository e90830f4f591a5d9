using ExactFlow.Tensors;
using ExactFlow.Testing;
using ExactFlow.Testing.Emulation;

namespace ExactFlow.Cuda.Tests;

/// <summary>What <c>doctor</c> says about GPUs, thing by thing in the order in which they are needed.</summary>
public sealed class CudaDiagnosisTests
{
    private static readonly string[] Everything = ["GPU driver", "GPU", "kernel compiler", "kernel cache", "kernels", "matrix products"];

    [Fact]
    public void A_machine_that_has_everything_is_found_sound_by_running_a_kernel()
    {
        Assert.SkipUnless(EmulatedKernelCompiler.IsAvailable, "No g++ on the PATH.");
        using var folder = new TemporaryFolder();
        var driver = new EmulatedCudaDriver();

        IReadOnlyList<CudaFinding> findings =
            new CudaDiagnosis(() => driver, new EmulatedKernelCompiler(), new KernelCache(folder.Path), loaded => new EmulatedMatrixProducts((EmulatedCudaDriver)loaded)).Examine();

        Assert.Equal(Everything, findings.Select(finding => finding.What));
        Assert.All(findings, finding => Assert.Null(finding.Missing));
        Assert.Contains(driver.Calls, call => call.StartsWith("cuLaunchKernel plain_product", StringComparison.Ordinal));
        Assert.Contains(driver.Calls, call => call.StartsWith("cublasLtMatmul", StringComparison.Ordinal));
        Assert.Empty(driver.Outstanding);
    }

    [Fact]
    public void Without_a_driver_library_only_that_is_reported()
    {
        CudaFinding finding = Assert.Single(new CudaDiagnosis(() => throw new InvalidInputException("No driver.")).Examine());
        Assert.Equal(("GPU driver", "No driver."), (finding.What, finding.Missing));
    }

    [Fact]
    public void An_old_driver_is_named_with_both_versions()
    {
        CudaFinding finding = Assert.Single(new CudaDiagnosis(() => new RecordingCudaDriver { Version = 11_080 }).Examine());
        Assert.Contains("11.8", finding.Missing, StringComparison.Ordinal);
        Assert.Contains("12.0", finding.Missing, StringComparison.Ordinal);
    }

    [Fact]
    public void Without_a_gpu_the_compiler_and_the_cache_are_still_examined()
    {
        using var folder = new TemporaryFolder();
        IReadOnlyList<CudaFinding> findings = new CudaDiagnosis(() => new RecordingCudaDriver { DeviceCount = 0 }, new Compiler(), new KernelCache(folder.Path)).Examine();
        Assert.Equal(Everything[..4], findings.Select(finding => finding.What));
        Assert.Contains("CUDA_VISIBLE_DEVICES", findings[1].Missing, StringComparison.Ordinal);
        Assert.Equal("compiler 1.0", findings[2].Found);
        Assert.Empty(Directory.GetFiles(folder.Path));
    }

    [Fact]
    public void A_missing_compiler_and_a_folder_that_cannot_be_written_come_with_what_to_do()
    {
        using var folder = new TemporaryFolder();
        File.WriteAllText(folder["file"], "in the way");
        IReadOnlyList<CudaFinding> findings =
            new CudaDiagnosis(() => new RecordingCudaDriver(), new Compiler { Problem = "No compiler: install one." }, new KernelCache(Path.Combine(folder["file"], "below")), _ => throw new InvalidInputException("No products.")).Examine();
        Assert.Equal(Everything, findings.Select(finding => finding.What));
        Assert.Equal("No compiler: install one.", findings[2].Missing);
        Assert.Contains(KernelCache.FolderVariable, findings[3].Missing, StringComparison.Ordinal);
        Assert.Equal("No compiler: install one.", findings[4].Missing);
        Assert.Equal("No products.", findings[5].Missing);
    }

    [Fact]
    public void A_gpu_that_computes_wrongly_is_found()
    {
        using var folder = new TemporaryFolder();
        IReadOnlyList<CudaFinding> findings = new CudaDiagnosis(() => new RecordingCudaDriver(), new Compiler(), new KernelCache(folder.Path), _ => new NoProducts()).Examine();
        Assert.Contains("gave 0 where", findings[^1].Missing, StringComparison.Ordinal);
    }

    private sealed class Compiler : IKernelCompiler
    {
        public string? Problem { get; init; }

        public string Version => Problem is null ? "compiler 1.0" : throw new InvalidInputException(Problem);

        public byte[] Compile(string name, string source, IReadOnlyList<string> options) => [1];
    }

    /// <summary>Computes nothing.</summary>
    private sealed class NoProducts : IMatrixProducts
    {
        public void Multiply(in MatrixProduct product, nint stream)
        {
        }

        public void Dispose()
        {
        }
    }
}
