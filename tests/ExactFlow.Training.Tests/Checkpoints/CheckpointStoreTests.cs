using ExactFlow.Tensors;
using ExactFlow.Training.Checkpoints;

namespace ExactFlow.Training.Tests.Checkpoints;

public class CheckpointStoreTests
{
    private static void WriteFiles(string folder, int step)
    {
        File.WriteAllText(Path.Combine(folder, "model.safetensors"), $"weights of {step}");
        File.WriteAllBytes(Path.Combine(folder, "empty.bin"), []);
        File.WriteAllText(Path.Combine(folder, "state.json"), $"{{\"step\":{step}}}");
    }

    private static string Save(CheckpointStore store, int step) => store.Save(step, folder => WriteFiles(folder, step));

    [Fact]
    public void A_saved_checkpoint_is_found_and_whole()
    {
        using var folder = new TemporaryFolder();
        var store = new CheckpointStore(folder["checkpoints"]);
        Assert.Null(store.FindNewest(Assert.Fail));

        string first = Save(store, 100);
        string second = Save(store, 1_234_567);

        Assert.Equal("step-000100", Path.GetFileName(first));
        Assert.Equal([1_234_567, 100], store.Steps());
        Assert.Equal(second, store.FindNewest(Assert.Fail));
        CheckpointStore.Verify(first);
        Assert.Equal("weights of 100", File.ReadAllText(Path.Combine(first, "model.safetensors")));
    }

    [Theory]
    [InlineData("model.safetensors", 0)]
    [InlineData("model.safetensors", 11)]
    [InlineData("state.json", 5)]
    public void A_flipped_byte_is_named_and_passed_over(string file, int position)
    {
        using var folder = new TemporaryFolder();
        var store = new CheckpointStore(folder.Path);
        string good = Save(store, 1);
        string damaged = Save(store, 2);
        string path = Path.Combine(damaged, file);
        byte[] bytes = File.ReadAllBytes(path);
        bytes[position] ^= 0x10;
        File.WriteAllBytes(path, bytes);

        var error = Assert.Throws<InvalidInputException>(() => CheckpointStore.Verify(damaged));
        Assert.Contains(file, error.Message, StringComparison.Ordinal);
        Assert.Contains("SHA-256", error.Message, StringComparison.Ordinal);

        var warnings = new List<string>();
        Assert.Equal(good, store.FindNewest(warnings.Add));
        Assert.Contains("step 2", Assert.Single(warnings), StringComparison.Ordinal);
    }

    [Fact]
    public void Missing_cut_and_unfinished_files_are_named()
    {
        using var folder = new TemporaryFolder();
        var store = new CheckpointStore(folder.Path);
        string Damage(int step, Action<string> damage)
        {
            string path = Save(store, step);
            damage(path);
            return Assert.Throws<InvalidInputException>(() => CheckpointStore.Verify(path)).Message;
        }

        Assert.Contains("state.json is missing", Damage(1, path => File.Delete(Path.Combine(path, "state.json"))), StringComparison.Ordinal);
        Assert.Contains("model.safetensors has 3 bytes where the manifest says 12", Damage(2, path => File.WriteAllText(Path.Combine(path, "model.safetensors"), "abc")), StringComparison.Ordinal);
        Assert.Contains("no manifest.json", Damage(3, path => File.Delete(Path.Combine(path, "manifest.json"))), StringComparison.Ordinal);
        Assert.Contains("not valid JSON", Damage(4, path => File.WriteAllText(Path.Combine(path, "manifest.json"), "{\"vers")), StringComparison.Ordinal);
        Assert.Contains("not a manifest", Damage(5, path => File.WriteAllText(Path.Combine(path, "manifest.json"), "{}")), StringComparison.Ordinal);
        Assert.Equal([5, 4, 2, 1], store.Steps());
    }

    [Fact]
    public void A_fault_while_writing_leaves_earlier_checkpoints_and_says_which()
    {
        using var folder = new TemporaryFolder();
        var store = new CheckpointStore(folder.Path);
        Save(store, 1);

        var error = Assert.Throws<InvalidInputException>(() => store.Save(2, target =>
        {
            WriteFiles(target, 2);
            throw new IOException("No space left on device.");
        }));

        Assert.Contains("checkpoint of step 2 failed (No space left on device)", error.Message, StringComparison.Ordinal);
        Assert.Contains("step 1 is intact", error.Message, StringComparison.Ordinal);
        Assert.Equal(store.PathOf(1), store.FindNewest(Assert.Fail));
        Assert.Equal(["step-000001"], Directory.GetFileSystemEntries(folder.Path).Select(Path.GetFileName));
    }

    [Fact]
    public void Leftovers_of_a_killed_process_are_no_checkpoints_and_go_with_the_next_save()
    {
        using var folder = new TemporaryFolder();
        var store = new CheckpointStore(folder.Path);
        Save(store, 1);
        Directory.CreateDirectory(folder[".writing-step-000002"]);
        WriteFiles(folder[".writing-step-000002"], 2);
        Directory.CreateDirectory(folder["step-000003"]);
        WriteFiles(folder["step-000003"], 3);
        Assert.Equal([1], store.Steps());

        Save(store, 4);

        Assert.Equal(["step-000001", "step-000004"], Directory.GetDirectories(folder.Path).Select(Path.GetFileName).Order());
    }

    [Fact]
    public void Saving_a_step_again_replaces_it()
    {
        using var folder = new TemporaryFolder();
        var store = new CheckpointStore(folder.Path);
        Save(store, 1);
        store.Save(1, target => File.WriteAllText(Path.Combine(target, "other"), "new"));
        CheckpointStore.Verify(store.PathOf(1));
        Assert.Equal(["manifest.json", "other"], Directory.GetFiles(store.PathOf(1)).Select(Path.GetFileName).Order());
    }

    [Theory]
    [InlineData(1, null, new[] { 5 })]
    [InlineData(2, null, new[] { 5, 4 })]
    [InlineData(2, 1, new[] { 5, 4, 1 })]
    [InlineData(2, 5, new[] { 5, 4 })]
    [InlineData(9, 1, new[] { 5, 4, 3, 2, 1 })]
    public void The_newest_and_the_best_are_kept(int keepLast, int? best, int[] expected)
    {
        using var folder = new TemporaryFolder();
        var store = new CheckpointStore(folder.Path);
        for (int step = 1; step <= 5; step++)
        {
            Save(store, step);
        }

        store.Prune(keepLast, best);
        Assert.Equal(expected, store.Steps());
    }
}
