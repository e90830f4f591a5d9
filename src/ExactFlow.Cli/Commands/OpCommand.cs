using System.CommandLine;
using System.Diagnostics;
using ExactFlow.Cli.Display;
using ExactFlow.Cli.Parsing;
using ExactFlow.Operators;
using ExactFlow.Tensors;
using ExactFlow.Tensors.Files;

namespace ExactFlow.Cli.Commands;

/// <summary><c>exactflow op</c>: the delta rule on tensors from a file, so that anyone can check it against their own implementation.</summary>
internal static class OpCommand
{
    /// <summary>Makes the command.</summary>
    public static Command Create()
    {
        Option<string?> rule = Settings.Optional("--rule", $"the rule, one of {string.Join(", ", DeltaRuleKind.All)}; default: the one named in the file's metadata", "NAME");
        Option<string> input = Settings.Required(
            "--input", "safetensors file with q, k [batch, time, heads, K], v [batch, time, heads, V], beta, log_decay [batch, time, heads], optionally initial_state, grad_output, grad_final_state, cu_seqlens; metadata scale", "FILE");
        Option<string> output = Settings.Required(
            "--output", "safetensors file to write: output, final_state and, if grad_output or grad_final_state is given, grad_q, grad_k, grad_v, grad_beta, grad_log_decay, grad_initial_state", "FILE");
        Option<string> form = Settings.Choice("--form", "how to compute: token by token, in chunks, or the float64 reference", "chunkwise", ["recurrent", "chunkwise", "reference"]);
        Option<string> precision = Settings.Choice("--precision", "arithmetic, and format of the output, which is float32 for bfloat16; float64 on the CPU, bfloat16 on GPUs", "float32", ["float32", "float64", "bfloat16"]);
        Option<int> chunk = Settings.Whole("--chunk", "tokens per chunk of the chunkwise form", 64, 1, 256);
        var command = new CliCommand("op", "Applies a rule of the delta family to tensors in a safetensors file, forward and backward.")
        {
            Examples =
            [
                ("exactflow op --rule efla --input in.safetensors --output out.safetensors", "EFLA in float32, chunkwise"),
                ("exactflow op --rule efla --input in.safetensors --output out.safetensors --device cuda --precision bfloat16", "on a GPU"),
                ("exactflow op --rule gated_efla --input in.safetensors --output out.safetensors --form recurrent --precision float64", "Gated EFLA token by token in float64"),
            ],
        };
        command.Options.Add(rule);
        command.Options.Add(input);
        command.Options.Add(output);
        command.Options.Add(form);
        command.Options.Add(precision);
        command.Options.Add(chunk);
        CommonOptions common = CommonOptions.AddTo(command);
        command.SetAction(parsed =>
        {
            using Device device = common.Open(parsed);
            var request = new Request(parsed.GetValue(rule), parsed.GetRequiredValue(input), parsed.GetRequiredValue(output),
                Enum.Parse<DeltaRuleForm>(parsed.GetRequiredValue(form), ignoreCase: true), parsed.GetRequiredValue(precision), parsed.GetRequiredValue(chunk));
            Run(device, request, common.WantsJson(parsed));
        });
        return command;
    }

    private static void Run(Device device, Request request, bool wantsJson)
    {
        DeltaRuleProblem problem;
        using (SafetensorsFile file = SafetensorsFile.Open(request.Input))
        {
            problem = DeltaRuleFile.Read(file, request.Rule, request.ChunkLength);
        }

        long start = Stopwatch.GetTimestamp();
        DeltaRuleSolution solution = Solve(device, problem, request);
        double milliseconds = Stopwatch.GetElapsedTime(start).TotalMilliseconds;
        IReadOnlyList<string> written = DeltaRuleFile.Write(request.Output, problem, solution, request.Precision == "float64" ? DeltaRulePrecision.Float64 : DeltaRulePrecision.Float32);
        if (wantsJson)
        {
            JsonOutput.Write(new
            {
                Rule = problem.Rule.Name,
                Form = request.Form.ToString().ToLowerInvariant(),
                request.Precision,
                Q = problem.QueryShape.ToArray(),
                V = problem.ValueShape.ToArray(),
                Milliseconds = milliseconds,
                request.Output,
                Tensors = written,
            });
            return;
        }

        Console.WriteLine($"{problem.Rule}, {request.Form.ToString().ToLowerInvariant()}, {request.Precision}: q {problem.QueryShape}, v {problem.ValueShape} in {milliseconds:0.0} ms");
        Console.WriteLine($"{request.Output}: {string.Join(", ", written)}");
    }

    private static DeltaRuleSolution Solve(Device device, DeltaRuleProblem problem, Request request) => (device, request.Precision) switch
    {
        (CpuDevice cpu, "float32") => problem.Solve(cpu, request.Form, DeltaRulePrecision.Float32),
        (CpuDevice cpu, "float64") => problem.Solve(cpu, request.Form, DeltaRulePrecision.Float64),
        (CpuDevice, _) => throw new InvalidInputException("The CPU computes the operator in float32 or float64, but bfloat16 was asked for: choose one of these, or a GPU with --device cuda."),
        (_, "float64") => throw new InvalidInputException($"{device.Name} computes the operator in float32 or bfloat16, but float64 was asked for: choose one of these, or --device cpu."),
        (_, _) when request.Form == DeltaRuleForm.Reference => throw new InvalidInputException($"The reference form runs on the CPU alone, but it was asked for on {device.Name}: choose another form, or --device cpu."),
        (_, "bfloat16") => DeltaRuleOnDevice.Solve(device, problem, request.Form, DType.BFloat16),
        _ => DeltaRuleOnDevice.Solve(device, problem, request.Form, DType.Float32),
    };

    private sealed record Request(string? Rule, string Input, string Output, DeltaRuleForm Form, string Precision, int ChunkLength);
}
