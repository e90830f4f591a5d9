#!/usr/bin/env python3
"""Checks that one model folder gives the same logits in ExactFlow and in flash-linear-attention with PyTorch, both ways.

    python logits_fla.py --exactflow path/to/exactflow                # the installed flash-linear-attention
    python logits_fla.py --exactflow path/to/exactflow --fla DIR      # one in a folder
    python logits_fla.py --exactflow path/to/exactflow --workers 6    # several models at once
    python logits_fla.py --exactflow path/to/exactflow --cases "ours:gated_deltanet;theirs:mamba2"

Ours to theirs: small models are trained for a few steps by `exactflow train`, written by `exactflow convert` (one file and several, float32 and bfloat16) and loaded by
flash-linear-attention. Theirs to ours: models with random weights, saved by `save_pretrained` in one file and in several, and read by `exactflow logits`. All read the same ids.

float32 is compared with flash-linear-attention's recurrent form, whose kernels keep float32 throughout: its chunkwise form of the delta rule refuses float32, and those of the other
rules multiply in TF32, a rounding of 5e-4 that says nothing about either side. PyTorch's own products are float32 unless TF32 is allowed, which it is not here.
bfloat16 is what a GPU is used with: chunkwise there, kernels of ours here; each is compared with float32 logits of the very same weights, as two roundings differ from each other.

Most of the time goes into compiling flash-linear-attention's kernels, half a minute to a minute a model, one kernel after the other. With --workers each model and direction is a
process of its own; nothing is timed here, so they do not disturb each other. Every comparison is printed as soon as it is made, float32 before bfloat16, and those made before the deadline stay.

Prints a table and ends with 1 if anything is further off than its tolerance, or with 2 if something could not be compared.
"""
import argparse
import json
import os
import random
import shlex
import signal
import subprocess
import sys
import tempfile
import time

import peer_fla
from peer_fla import one_line, say

try:
    import torch
except ImportError:
    torch = None

BATCH, TIME, STEPS = 2, 200, 12
FLOAT32 = 2e-5   # relative L2; float32 arithmetic in another order
BFLOAT16 = 3e-2  # relative L2 against float32 logits of the same weights; a few roundings of 4e-3 in each of the layers

# Rule of ours, their module and classes, their configuration for the way back.
MODELS = {
    "deltanet": ("delta_net", "DeltaNet", dict(hidden_size=128, num_heads=2, num_hidden_layers=3, intermediate_size=320, vocab_size=503, max_position_embeddings=512)),
    "deltanet, gate, expand_v 2": ("delta_net", "DeltaNet", dict(hidden_size=128, num_heads=2, expand_v=2.0, use_gate=True, allow_neg_eigval=True, num_hidden_layers=2, vocab_size=499)),
    "gated_deltanet": ("gated_deltanet", "GatedDeltaNet", dict(hidden_size=128, num_heads=2, head_dim=64, expand_v=1.0, num_hidden_layers=3, intermediate_size=320, vocab_size=503)),
    "gated_deltanet, value heads": ("gated_deltanet", "GatedDeltaNet", dict(hidden_size=128, num_heads=2, num_v_heads=4, head_dim=32, expand_v=2.0, num_hidden_layers=2, vocab_size=499)),
    "mamba2": ("mamba2", "Mamba2", dict(hidden_size=128, head_dim=64, state_size=64, n_groups=1, num_hidden_layers=3, vocab_size=503, norm_eps=1e-6)),
}


class Table:
    def __init__(self, path=None):
        self.rows, self.beyond, self.failed, self.path = [], 0, 0, path

    def add(self, direction, model, files, ours, theirs, got, reference, tolerance):
        got, reference = got.double(), reference.double()
        relative = ((got - reference).norm() / reference.norm()).item()
        greatest = (got - reference).abs().max().item()
        fine = relative <= tolerance  # false for NaN as well
        self.beyond += not fine
        self.rows.append([direction, model, files, ours, theirs, f"{relative:.2e}", f"{greatest:.2e}", f"{tolerance:.0e}", "yes" if fine else "NO"])
        self.keep()

    def fail(self, direction, model, files, error):
        self.failed += 1
        self.rows.append([direction, model, files, "-", "-", "-", "-", "-", f"not compared: {one_line(error)}"])
        self.keep()

    def keep(self):
        """Shows the newest row, and writes all of them for the process that asked for them."""
        say(" | ".join(self.rows[-1]))
        if self.path:
            with open(self.path + ".partial", "w", encoding="utf-8") as file:
                json.dump({"rows": self.rows, "beyond": self.beyond, "failed": self.failed}, file)
            os.replace(self.path + ".partial", self.path)

    def take(self, path):
        """Adds what another process kept; False when it kept nothing."""
        if not os.path.exists(path):
            return False
        with open(path, encoding="utf-8") as file:
            other = json.load(file)
        self.rows += other["rows"]
        self.beyond += other["beyond"]
        self.failed += other["failed"]
        return True

    def print(self):
        head = ["from", "model", "files", "compared", "with", "relative L2", "greatest difference", "tolerance", "within"]
        for row in [head, ["---"] * len(head), *self.rows]:
            print("| " + " | ".join(row) + " |")


# ---------------------------------------------------------------------------------------------------------------- ours

class ExactFlow:
    def __init__(self, command, devices):
        self.command, self.devices = shlex.split(command), devices

    def run(self, *arguments):
        done = subprocess.run([*self.command, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        if done.returncode != 0:
            raise RuntimeError(f"exactflow {arguments[0]} ended with {done.returncode}: {(done.stderr.strip() or done.stdout.strip())[-400:]}")
        return done.stdout

    def logits(self, folder, ids, work, device, precision):
        from safetensors.torch import load_file, save_file
        save_file({"input_ids": ids.cpu()}, os.path.join(work, "ids.safetensors"))
        output = os.path.join(work, "logits.safetensors")
        self.run("logits", "--model", folder, "--input", os.path.join(work, "ids.safetensors"), "--output", output, "--device", device, "--precision", precision)
        return load_file(output)["logits"]

    def all_logits(self, folder, ids, work):
        """(what, logits, whether bfloat16) of each device and precision of ours."""
        for device in self.devices:
            yield f"{device} float32", self.logits(folder, ids, work, device, "float32"), False
            if device != "cpu":
                yield f"{device} bfloat16", self.logits(folder, ids, work, device, "bfloat16"), True

    def trained(self, rule, work):
        """A model folder that training made, in four forms."""
        text = os.path.join(work, "text.txt")
        if not os.path.exists(text):
            with open(__file__, encoding="utf-8") as file:
                words = file.read().split()
            random.seed(1)
            with open(text, "w", encoding="utf-8") as file:
                file.write("\n".join(" ".join(random.choices(words, k=12)) for _ in range(4000)))
        runs, settings = os.path.join(work, "runs"), {
            "model.hidden": 128, "model.layers": 3, "model.heads": 2, "data.vocabulary": 512, "data.sequence_length": 64, "data.batch_size": 4,
            "evaluation.every": 0, "evaluation.windows": 1, "evaluation.sample_tokens": 0,
        }
        self.run("train", "--rule", rule, "--name", rule, "--steps", STEPS, "--text", text, "--runs", runs, *(part for key, value in settings.items() for part in ("--set", f"{key}={value}")))
        for files, more in (("one file", []), ("shards", ["--shard-size", "0.0008"]), ("bfloat16", ["--dtype", "bfloat16"])):
            folder = os.path.join(work, f"{rule} {files}")
            self.run("convert", "--model", os.path.join(runs, rule), "--output", folder, *more)
            yield files, folder


# ---------------------------------------------------------------------------------------------------------------- theirs

def classes(module, name):
    found = __import__(f"fla.models.{module}", fromlist=[name])
    return getattr(found, f"{name}Config"), getattr(found, f"{name}ForCausalLM")


def recurrent(model):
    """Makes the layers compute token by token; those of Mamba-2 have one form."""
    for module in model.modules():
        if hasattr(module, "mode") and hasattr(module, "q_proj"):
            module.mode = "fused_recurrent"
    return model


def their_logits(model, ids):
    with torch.inference_mode():
        return model(input_ids=ids.cuda(), use_cache=False, return_dict=True, output_attentions=False, output_hidden_states=False).logits.float().cpu()


def load(module, name, folder):
    """As a user does, `from_pretrained`; if the installed transformers does not get on with flash-linear-attention, by hand, which is said."""
    config_class, model_class = classes(module, name)
    try:
        model, report = model_class.from_pretrained(folder, dtype=torch.float32, output_loading_info=True)
        strange = {key: sorted(map(str, value)) for key, value in report.items() if value and key in ("missing_keys", "unexpected_keys", "mismatched_keys")}
        if strange:
            raise RuntimeError(f"from_pretrained reports {strange}")
    except Exception as error:
        say(f"from_pretrained({os.path.basename(folder)}): {one_line(error)}; loading the tensors by hand")
        from safetensors.torch import load_file
        with open(os.path.join(folder, "config.json"), encoding="utf-8") as file:
            fields = json.load(file)
        model = model_class(config_class(**{key: value for key, value in fields.items() if key not in ("architectures", "model_type", "transformers_version", "dtype", "torch_dtype")}))
        tensors = {}
        for file in sorted(os.listdir(folder)):
            if file.endswith(".safetensors"):
                tensors.update(load_file(os.path.join(folder, file)))
        model.load_state_dict({key: value.float() for key, value in tensors.items()}, strict=True)
    return model.eval().cuda().float()


def randomised(module, name, fields):
    """A model whose every tensor matters: norms differ from one, steps and decays from their beginnings."""
    config_class, model_class = classes(module, name)
    torch.manual_seed(7)
    model = model_class(config_class(**fields)).float()
    with torch.no_grad():
        for parameter_name, parameter in model.named_parameters():
            leaf = parameter_name.split(".")[-2:]
            if "norm" in parameter_name:
                parameter.uniform_(0.5, 1.5)
            elif leaf[-1] == "A_log":
                parameter.uniform_(-3, 1)
            elif leaf[-1] == "dt_bias":
                parameter.uniform_(-4, 0)
            elif leaf[-1] == "D" or leaf[-1] == "bias":
                parameter.uniform_(-1, 1)
            elif "conv1d" in parameter_name:
                parameter.normal_(0, 0.4)
            elif "embeddings" in parameter_name:
                parameter.normal_(0, 1)
            else:
                parameter.normal_(0, parameter.shape[-1] ** -0.5)
    return model


# ---------------------------------------------------------------------------------------------------------------- both ways

def ours_to_theirs(table, exactflow, rule, work):
    module, name, _ = MODELS[rule]
    references = {}
    for files, folder in exactflow.trained(rule, work):
        try:
            model = recurrent(load(module, name, folder))
            ids = torch.randint(model.config.vocab_size, (BATCH, TIME), generator=torch.Generator().manual_seed(3))
            reference = their_logits(model, ids)
            references[files] = folder, ids, reference
            for what, got, low in exactflow.all_logits(folder, ids, work):
                table.add("ours", rule, files, f"ExactFlow {what}", "fla float32", got, reference, BFLOAT16 if low else FLOAT32)
        except Exception as error:
            table.fail("ours", rule, files, error)
    for files, (folder, ids, reference) in references.items():  # their chunkwise kernels, the slowest to compile, come last
        try:
            table.add("ours", rule, files, "fla bfloat16", "fla float32", their_logits(load(module, name, folder).bfloat16(), ids), reference, BFLOAT16)
        except Exception as error:
            table.fail("ours", rule, files, error)


def theirs_to_ours(table, exactflow, what, work):
    module, name, fields = MODELS[what]
    try:
        model = randomised(module, name, fields)
        folders = {}
        for files, size in (("one file", "5GB"), ("shards", "600KB")):
            folders[files] = os.path.join(work, f"theirs {what} {files}")
            try:
                model.save_pretrained(folders[files], max_shard_size=size)
            except Exception as error:
                say(f"save_pretrained: {one_line(error)}; writing the tensors by hand")
                from safetensors.torch import save_file
                os.makedirs(folders[files], exist_ok=True)
                model.config.save_pretrained(folders[files])
                save_file({key: value.contiguous() for key, value in model.state_dict().items()}, os.path.join(folders[files], "model.safetensors"), metadata={"format": "pt"})
        model = recurrent(model.eval().cuda())
        ids = torch.randint(model.config.vocab_size, (BATCH, TIME), generator=torch.Generator().manual_seed(4))
        reference = their_logits(model, ids)
        for files, folder in folders.items():
            for ours, got, low in exactflow.all_logits(folder, ids, work):
                table.add("theirs", what, files, f"ExactFlow {ours}", "fla float32", got, reference, BFLOAT16 if low else FLOAT32)
    except Exception as error:
        table.fail("theirs", what, "", error)


def compare(table, exactflow, cases, deadline):
    """One model and direction after the other, in this process."""
    with tempfile.TemporaryDirectory() as work:
        for direction, what in cases:
            if deadline.passed():
                table.fail(direction, what, "", TimeoutError("the deadline has passed"))
                continue
            try:
                (ours_to_theirs if direction == "ours" else theirs_to_ours)(table, exactflow, what, work)
            except Exception as error:
                table.fail(direction, what, "", error)


def compare_at_once(table, arguments, cases, deadline):
    """A process for each model and direction, `--workers` of them at a time. They print their rows themselves and leave them in files."""
    shared = [sys.executable, os.path.abspath(__file__), "--exactflow", arguments.exactflow, "--devices", arguments.devices, *(["--fla", arguments.fla] if arguments.fla else [])]
    waiting, running = list(cases), []
    with tempfile.TemporaryDirectory() as work:
        while waiting or running:
            while waiting and len(running) < arguments.workers and not deadline.passed():
                direction, what = waiting.pop(0)
                rows = os.path.join(work, f"{len(waiting)}.json")
                process = subprocess.Popen([*shared, "--cases", f"{direction}:{what}", "--rows", rows], stdout=subprocess.DEVNULL, start_new_session=True)
                running.append((process, direction, what, rows))
            if deadline.passed():
                for direction, what in waiting:
                    table.fail(direction, what, "", TimeoutError("the deadline has passed"))
                waiting = []
            time.sleep(0.2)
            for case in list(running):
                process, direction, what, rows = case
                if process.poll() is None and not deadline.passed():
                    continue
                running.remove(case)
                late = process.poll() is None
                if late:
                    os.killpg(process.pid, signal.SIGKILL)  # with the exactflow that it may be waiting for
                code = process.wait()
                kept = table.take(rows)
                if late or not kept or code not in (0, 1, 2):
                    table.fail(direction, what, "", TimeoutError("stopped at the deadline") if late else RuntimeError(f"its process ended with {code}"))


def parse():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--exactflow", required=True, help="our program, such as path/to/exactflow or 'dotnet path/to/exactflow.dll'")
    parser.add_argument("--fla", help="folder that holds flash-linear-attention's 'fla'; default: the installed one")
    parser.add_argument("--devices", default="cpu,cuda", help="devices of ours, any of cpu, cuda")
    parser.add_argument("--models", help="only these, any of: " + "; ".join(MODELS))
    parser.add_argument("--directions", default="theirs,ours", help="who writes the folders: theirs, ours or both, in this order")
    parser.add_argument("--cases", help="in place of --models and --directions: 'ours:gated_deltanet;theirs:mamba2'")
    parser.add_argument("--workers", type=int, default=1, help="models compared at once, each by a process of its own")
    parser.add_argument("--deadline", type=float, help="seconds after which no further model is begun, and with --workers none goes on")
    parser.add_argument("--rows", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    # Names with a comma are variants of a rule that only their configuration has; ours trains the rule itself.
    cases = [tuple(case.strip().split(":", 1)) for case in arguments.cases.split(";")] if arguments.cases else [
        (direction, what)
        for direction in arguments.directions.split(",")
        for what in (arguments.models.split(";") if arguments.models else MODELS)
        if direction == "theirs" or "," not in what
    ]
    for case in cases:
        if len(case) != 2 or case[0] not in ("ours", "theirs") or case[1] not in MODELS or (case[0] == "ours" and "," in case[1]):
            parser.error(f"there is no case '{':'.join(case)}'; directions are ours and theirs, models are " + "; ".join(MODELS) + " (ours: those without a comma)")
    return arguments, cases


def main():
    arguments, cases = parse()
    if torch is None or not torch.cuda.is_available():
        sys.exit("This script needs PyTorch with a GPU; see README.md beside it.")
    deadline = peer_fla.Deadline(arguments.deadline)
    table = Table(arguments.rows)
    version = peer_fla.attach(arguments.fla)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    print(f"{torch.cuda.get_device_name()}, PyTorch {torch.__version__}, flash-linear-attention {version}; {BATCH} x {TIME} tokens", flush=True)
    if arguments.workers > 1 and len(cases) > 1:
        compare_at_once(table, arguments, cases, deadline)
    else:
        compare(table, ExactFlow(arguments.exactflow, arguments.devices.split(",")), cases, deadline)
    table.print()
    sys.exit(2 if table.failed else 1 if table.beyond else 0)


if __name__ == "__main__":
    main()
