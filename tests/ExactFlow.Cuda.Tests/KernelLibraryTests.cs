using System.Reflection;
using ExactFlow.Tensors;
using ExactFlow.Testing;

namespace ExactFlow.Cuda.Tests;

/// <summary>Compilation and the cache on disk, with a compiler that only remembers what it was asked.</summary>
public sealed class KernelLibraryTests : IDisposable
{
    private static readonly Assembly Here = typeof(KernelLibraryTests).Assembly;
    private readonly string folder = Directory.CreateTempSubdirectory("exactflow-kernels").FullName;
    private readonly RememberingCompiler compiler = new();

    public void Dispose() => Directory.Delete(folder, recursive: true);

    [Fact]
    public void A_source_is_compiled_once_and_later_comes_from_disk()
    {
        for (int run = 0; run < 3; run++)
        {
            using CudaDevice device = Open();
            device.Kernels.Function(Here, "including.cu", "kernel");
            device.Kernels.Function(Here, "including.cu", "kernel");
        }

        (string name, string source, IReadOnlyList<string> options) = Assert.Single(compiler.Asked);
        Assert.Equal("including.cu", name);
        Assert.Contains("--gpu-architecture=sm_90a", options);
        Assert.Equal(
            """
            #line 1 "including.cu"
            #line 1 "shared.cuh"
            // shared
            int shared_value();
            #line 2 "including.cu"
            // kernel
            int kernel_value();
            #line 5 "including.cu"

            """,
            source);
    }

    [Fact]
    public void Another_source_option_or_compiler_is_another_entry()
    {
        var cache = new KernelCache(folder);
        cache.Get(compiler, "a.cu", "one", ["-x"]);
        cache.Get(compiler, "a.cu", "two", ["-x"]);
        cache.Get(compiler, "a.cu", "one", ["-y"]);
        cache.Get(new RememberingCompiler { Version = "other" }, "a.cu", "one", ["-x"]);
        cache.Get(compiler, "a.cu", "one", ["-x"]);
        Assert.Equal(4, cache.Misses);
        Assert.Equal(4, Directory.GetFiles(folder).Length);
    }

    [Fact]
    public void A_damaged_entry_is_rebuilt()
    {
        var cache = new KernelCache(folder);
        byte[] code = cache.Get(compiler, "a.cu", "one", []);
        string entry = Assert.Single(Directory.GetFiles(folder));
        byte[] sound = File.ReadAllBytes(entry);
        for (int damage = 0; damage < sound.Length; damage += 7)
        {
            byte[] bad = [.. sound];
            bad[damage] ^= 0x10;
            File.WriteAllBytes(entry, damage % 2 == 0 ? bad : bad[..damage]);
            Assert.Equal(code, cache.Get(compiler, "a.cu", "one", []));
            Assert.Equal(sound, File.ReadAllBytes(entry));
        }
    }

    [Fact]
    public void A_cache_that_cannot_be_written_names_folder_and_remedy()
    {
        string file = Path.Combine(folder, "file");
        File.WriteAllText(file, "in the way");
        var exception = Assert.Throws<InvalidInputException>(() => new KernelCache(Path.Combine(file, "below")).Get(compiler, "a.cu", "one", []));
        Assert.Contains(file, exception.Message, StringComparison.Ordinal);
        Assert.Contains(KernelCache.FolderVariable, exception.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_large_block_is_announced_to_the_driver_and_modules_are_unloaded()
    {
        var driver = new RecordingCudaDriver { Kernels = new HashSet<string>(["small", "medium", "large"], StringComparer.Ordinal) };
        using (var device = new CudaDevice(driver, compiler: compiler, cache: new KernelCache(folder)))
        {
            device.Kernels.Function(Here, "including.cu", "small", 40 * 1024);
            Assert.DoesNotContain("cuFuncSetAttribute", driver.CallNames);

            // A driver grants 48 KB in all without being asked, and kernels declare some of it themselves.
            device.Kernels.Function(Here, "including.cu", "medium", 48 * 1024);
            Assert.Equal(1, driver.CallNames.Count(name => name == "cuFuncSetAttribute"));
            device.Kernels.Function(Here, "including.cu", "large", 100_000);
            Assert.Equal(2, driver.CallNames.Count(name => name == "cuFuncSetAttribute"));
        }

        Assert.Empty(driver.Outstanding);
    }

    [Fact]
    public void A_missing_compiler_says_what_to_install()
    {
        Assert.SkipWhen(CudaLibrary.Nvrtc.TryLoad(out string where), $"This machine has the CUDA run-time compiler ({where}).");
        var exception = Assert.Throws<InvalidInputException>(() => new NvrtcCompiler("cuda:0").Version);
        Assert.Contains("libnvrtc", exception.Message.Replace("nvrtc64", "libnvrtc", StringComparison.Ordinal), StringComparison.Ordinal);
        Assert.Contains(CudaLibrary.Nvrtc.OverrideVariable, exception.Message, StringComparison.Ordinal);
    }

    private CudaDevice Open() => new(new RecordingCudaDriver(), compiler: compiler, cache: new KernelCache(folder));

    private sealed class RememberingCompiler : IKernelCompiler
    {
        public List<(string Name, string Source, IReadOnlyList<string> Options)> Asked { get; } = [];

        public string Version { get; init; } = "remembering 1.0";

        public byte[] Compile(string name, string source, IReadOnlyList<string> options)
        {
            Asked.Add((name, source, options));
            return [1, 2, 3, .. System.Text.Encoding.UTF8.GetBytes(source)];
        }
    }
}
