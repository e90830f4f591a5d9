#!/usr/bin/env python3
"""Times flash-linear-attention and ExactFlow on the same shapes, on the same GPU, in the same run.

    python bench_fla.py --warm                                            # once: compiles and tunes the peer's kernels, with several processes
    python bench_fla.py --exactflow path/to/exactflow --json peers.json   # operator, training step, generation
    python bench_fla.py --exactflow path/to/exactflow --parts op          # the operator alone
    python bench_fla.py --parts op,train                                  # only the peer

Needs PyTorch with CUDA and flash-linear-attention; see README.md beside this file. Their operator is timed as a user calls it ("eager") and replayed from a CUDA
graph. Ours is what `exactflow bench --device cuda --json` says, case by case right after theirs. A ratio above 1 means that ours takes less time.
"""
import argparse
import json
import os
import shlex
import statistics
import subprocess
import sys
import time

import peer_fla
from peer_fla import one_line, say

DIM = 128
SHAPES = [(8, 2048, 8), (32, 2048, 8), (1, 16384, 8), (1, 131072, 16)]
TRAINING = [(8, 2048), (1, 16384), (32, 2048)]
BATCHES = [1, 32]
VOCABULARY = 32000
LAYERS = 24

try:
    import torch
except ImportError:
    torch = None


# ---------------------------------------------------------------------------------------------------------------- the rules in PyTorch

def normalised(k):
    """Keys of unit length, as DeltaNet takes them."""
    return (k.float() * torch.rsqrt(k.float().square().sum(-1, keepdim=True) + 1e-6)).to(k.dtype)


def deltanet(fla, q, k, v, beta, g):
    """The peer's own rule; it normalises q and k in kernels of its own."""
    return fla["delta"](q, k, v, beta, use_qk_l2norm_in_kernel=True)[0]


def deltanet_unit_keys(fla, q, k, v, beta, g):
    """The same on keys that were normalised before the clock started: the least that the peer can be asked for."""
    return fla["delta"](q, k, v, beta)[0]


def efla(fla, q, k, v, beta, g):
    """The delta rule on raw keys with beta' = (1 - exp(-beta |k|^2)) / |k|^2."""
    square = k.float().square().sum(-1).clamp_min(1e-12)
    step = -torch.expm1(-beta.float() * square) / square
    return fla["delta"](q, k, v, step.to(beta.dtype))[0]


def gated_deltanet(fla, q, k, v, beta, g):
    return fla["gated"](q, k, v, g, beta, use_qk_l2norm_in_kernel=True)[0]


def gated_efla(fla, q, k, v, beta, g):
    """Decay exp(-d), erasing e and writing w as in the paper's Eq. 68; their operator has one step size, so w / e goes into the values."""
    square = k.float().square().sum(-1).clamp_min(1e-12)
    d = -torch.expm1(g.float())
    r = torch.exp(g.float()) * beta.float()
    eta = (d + r * square).clamp_min(1e-12)
    erase = -torch.expm1(-r * square) / square
    write = beta.float() * -torch.expm1(-eta) / eta
    return fla["gated"](q, k, (v.float() * (write / erase.clamp_min(1e-12)).unsqueeze(-1)).to(v.dtype), -d, erase.to(beta.dtype))[0]


# Name, the peer's form, and the rule of ours that it is compared with.
RULES = [
    ("deltanet", deltanet, "deltanet"),
    ("deltanet, unit keys given", deltanet_unit_keys, "deltanet"),
    ("efla", efla, "efla"),
    ("gated_deltanet", gated_deltanet, "gated_efla"),
    ("gated_efla", gated_efla, "gated_efla"),
]


# ---------------------------------------------------------------------------------------------------------------- timing

def milliseconds(work, seconds):
    """Median over samples of several repetitions each, between marks on the device."""
    def sample(count):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        for _ in range(count):
            work()
        end.record()
        end.synchronize()
        return start.elapsed_time(end) / count

    for _ in range(3):
        work()
    torch.cuda.synchronize()
    count = max(1, min(100, int(20 / max(sample(1), 1e-3))))
    samples, spent = [], 0.0
    while len(samples) < 5 or spent < 1e3 * seconds:
        samples.append(sample(count))
        spent += samples[-1] * count
    return statistics.median(samples)


def captured(work):
    """The work as a CUDA graph: tuned and compiled outside, on a side stream, as capturing asks for."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            work()
    torch.cuda.current_stream().wait_stream(side)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        work()
    return graph.replay


def attempt(arguments, what, measure):
    """A figure, or None with the reason: neither a shape that does not fit nor the deadline must end the run."""
    if arguments.deadline.passed():
        say(f"{what}: left out, the deadline has passed")
        return None
    try:
        value = measure()
        say(f"{what}: {value:,.3f}" if isinstance(value, float) else what)
        return value
    except Exception as error:  # the peer's errors are of every kind
        say(f"{what}: {one_line(error)}")
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
        return None


# ---------------------------------------------------------------------------------------------------------------- what is timed

def operators():
    from fla.ops.delta_rule import chunk_delta_rule
    from fla.ops.gated_delta_rule import chunk_gated_delta_rule
    return {"delta": chunk_delta_rule, "gated": chunk_gated_delta_rule}


def operator_works(fla, shape, rules):
    """Name, rule of ours, forward pass and both passes of each rule at one shape."""
    batch, time_steps, heads = shape
    torch.manual_seed(1)
    q, k, v, grad = (torch.randn(batch, time_steps, heads, DIM, device="cuda", dtype=torch.bfloat16) for _ in range(4))
    q, k = q * DIM ** -0.5, k * DIM ** -0.5
    beta = torch.rand(batch, time_steps, heads, device="cuda", dtype=torch.bfloat16)
    g = -0.1 * torch.rand(batch, time_steps, heads, device="cuda", dtype=torch.float32)
    for name, rule, ours in (entry for entry in RULES if not rules or entry[0] in rules):
        given = [q, normalised(k) if rule is deltanet_unit_keys else k, v, beta, g]
        inputs = [x.detach().clone().requires_grad_() for x in given]
        wanted = inputs if "gated" in name else inputs[:4]

        def forward():
            with torch.no_grad():
                return rule(fla, *inputs)

        def both():
            return torch.autograd.grad(rule(fla, *inputs), wanted, grad)

        yield name, ours, forward, both


def measure_operators(arguments, result):
    fla = operators()
    for shape in arguments.shapes:
        case, rows = " x ".join(str(extent) for extent in shape), []
        for name, ours, forward, both in operator_works(fla, shape, arguments.rules):
            row = {"part": "op", "case": case, "peer": name, "ours": ours}
            for pass_name, work in (("forward", forward), ("with backward", both)):
                row[f"{pass_name}, eager"] = attempt(arguments, f"{case} {name} {pass_name}, eager, ms", lambda: milliseconds(work, arguments.seconds))
                row[f"{pass_name}, graph"] = attempt(arguments, f"{case} {name} {pass_name}, graph, ms", lambda: milliseconds(captured(work), arguments.seconds))
            rows.append(row)
        torch.cuda.empty_cache()
        operator_rows(rows, exactflow(arguments, result, "op", f" {case}"))
        keep(arguments, result, rows)


def peer_model(dtype, layers=LAYERS):
    from fla.models.delta_net import DeltaNetConfig, DeltaNetForCausalLM
    config = DeltaNetConfig(hidden_size=1024, num_heads=8, num_hidden_layers=layers, intermediate_size=2816, vocab_size=VOCABULARY, max_position_embeddings=131072)
    torch.manual_seed(1)
    model = DeltaNetForCausalLM(config).to("cuda", dtype)
    say(f"the peer's DeltaNet: {sum(p.numel() for p in model.parameters()) / 1e6:.0f}M parameters")
    return model


def loss_of(model, ids, autocast, **more):
    with torch.autocast("cuda", torch.bfloat16, enabled=autocast):
        return model(input_ids=ids, return_dict=True, output_attentions=False, output_hidden_states=False, use_cache=False, **more)


def training_step(model, optimizer, ids, autocast):
    def step():
        loss_of(model, ids, autocast, labels=ids).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return step


def measure_training(arguments, result):
    for kind, dtype in (("float32 weights, autocast", torch.float32), ("bfloat16 weights", torch.bfloat16)):
        model = attempt(arguments, f"building the model, {kind}", lambda: peer_model(dtype))
        if model is None:
            continue
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, betas=(0.9, 0.95), weight_decay=0.1, fused=True)
        for batch, time_steps in TRAINING:
            ids = torch.randint(VOCABULARY, (batch, time_steps), device="cuda")
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
            case = f"{batch} x {time_steps}"
            taken = attempt(arguments, f"training {case}, {kind}, ms", lambda: milliseconds(training_step(model, optimizer, ids, dtype == torch.float32), arguments.seconds))
            row = {"part": "train", "case": case, "peer": kind, "tokens per second": taken and 1e3 * batch * time_steps / taken, "GiB": torch.cuda.max_memory_allocated() / 2 ** 30}
            optimizer.zero_grad(set_to_none=True)
            torch.cuda.empty_cache()
            rate_rows([row], lambda case, rule: f"340m {case}", exactflow(arguments, result, "train", f"340m {case}"))
            keep(arguments, result, [row])
        del model, optimizer
        torch.cuda.empty_cache()


def generate(model, prompt, count, sample=True):
    with torch.inference_mode():
        model.generate(prompt, attention_mask=torch.ones_like(prompt), min_new_tokens=count, max_new_tokens=count, do_sample=sample, top_k=50 if sample else None, use_cache=True, pad_token_id=0)


def measure_generation(arguments, result, prompt_length=512, tokens=64):
    model = attempt(arguments, "building the model, generation", lambda: peer_model(torch.bfloat16).eval())
    for batch in BATCHES if model is not None else []:
        prompt = torch.randint(3, VOCABULARY, (batch, prompt_length), device="cuda")

        def rate():
            generate(model, prompt, 4)
            start, middle, end = (torch.cuda.Event(enable_timing=True) for _ in range(3))
            start.record()
            generate(model, prompt, 1)
            middle.record()
            generate(model, prompt, 1 + tokens)
            end.record()
            end.synchronize()
            return 1e3 * batch * tokens / (middle.elapsed_time(end) - start.elapsed_time(middle))

        row = {"part": "generate", "case": f"batch {batch}", "peer": "deltanet, generate()", "tokens per second": attempt(arguments, f"generation at batch {batch}, tokens per second", rate)}
        rate_rows([row], our_generation_case, exactflow(arguments, result, "generate", our_generation_case(row["case"], "").strip()))
        keep(arguments, result, [row])


# ---------------------------------------------------------------------------------------------------------------- compiling and tuning before the clock

def touch(arguments, parts):
    """Every call whose kernels are timed later, once, as (what, work); models have a single layer, which uses the same kernels at the same sizes."""
    if "op" in parts:
        fla = operators()
        for shape in arguments.shapes:
            for name, _, forward, both in operator_works(fla, shape, arguments.rules):
                yield f"{' x '.join(map(str, shape))} {name}", lambda: (forward(), both())
    if "train" in parts:
        for dtype in (torch.float32, torch.bfloat16):
            model = peer_model(dtype, layers=1)
            for batch, time_steps in TRAINING:
                ids = torch.randint(VOCABULARY, (batch, time_steps), device="cuda")
                yield f"training {batch} x {time_steps}, {dtype}", lambda: loss_of(model, ids, dtype == torch.float32, labels=ids).loss.backward()
            del model
    if "generate" in parts:
        model = peer_model(torch.bfloat16, layers=1).eval()
        for batch in BATCHES:
            prompt = torch.randint(3, VOCABULARY, (batch, 512), device="cuda")
            yield f"generation at batch {batch}", lambda: generate(model, prompt, 2, sample=False)


def walk(arguments, parts):
    for what, work in touch(arguments, parts):
        attempt(arguments, what, work)
        torch.cuda.synchronize()
        torch.cuda.empty_cache()


def compile_share(arguments, parts):
    share, shares = arguments.compile_share
    seen, failed = peer_fla.compile_only(share, shares)
    walk(arguments, parts)
    say(f"compiler {share + 1} of {shares}: {len(seen)} kernels, {len(failed)} configurations not possible" + (f", such as {failed[0]}" if failed else ""))


def warm(arguments, parts):
    """Compiles with several processes, then tunes in this one, alone on the GPU."""
    command = [sys.executable, os.path.abspath(__file__), *[argument for argument in sys.argv[1:] if argument != "--warm"]]
    if arguments.workers > 1:
        say(f"{arguments.workers} processes compile")
        workers = [subprocess.Popen([*command, "--compile-share", f"{share}/{arguments.workers}"]) for share in range(arguments.workers)]
        for worker in workers:
            try:
                worker.wait(None if arguments.deadline.seconds is None else max(1, arguments.deadline.remaining()))
            except subprocess.TimeoutExpired:
                worker.kill()
                worker.wait()
        say(f"compiled; {sum(worker.returncode != 0 for worker in workers)} of the processes failed")
    counts = peer_fla.report_tuning()
    walk(arguments, parts)
    say(f"warm: {counts['kernels']} kernels tuned in {counts['seconds']:.0f} s")


# ---------------------------------------------------------------------------------------------------------------- ours

def exactflow(arguments, result, suite, case):
    """What ours says of one case, or None when no program was given, time is up or it failed."""
    if not arguments.exactflow or arguments.deadline.passed():
        return None
    command = [*shlex.split(arguments.exactflow), "bench", suite, "--device", "cuda", "--json", "--seconds", str(arguments.seconds), "--filter", case]
    start = time.monotonic()
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=None if arguments.deadline.seconds is None else arguments.deadline.remaining() + 30)
    except subprocess.TimeoutExpired:
        say(f"{shlex.join(command)}: stopped at the deadline")
        return None
    say(f"{shlex.join(command)}: {time.monotonic() - start:.1f} s" + (f", ended with {done.returncode}" if done.returncode else ""))
    if done.returncode != 0:
        return None
    document = json.loads(done.stdout)
    result["exactflow"].setdefault(suite, []).append(document)
    return document


def keep(arguments, result, rows):
    """Adds rows to what was measured and writes all of it: an end that comes early loses nothing."""
    result["rows"] += rows
    if arguments.json:
        with open(arguments.json + ".partial", "w", encoding="utf-8") as file:
            json.dump(result, file, indent=1)
        os.replace(arguments.json + ".partial", arguments.json)


# ---------------------------------------------------------------------------------------------------------------- tables

def find(document, case, contender):
    for measurement in (document or {}).get("measurements", []):
        if measurement["case"] == case and measurement["contender"] == contender:
            return measurement
    return None


def shown(value, form="8.3f"):
    return f"{value:{form}}" if value is not None else "       -"


OPERATOR_HEAD = f"""
delta rule, K = V = {DIM}, bfloat16, milliseconds; ratios are the peer's time divided by ours

| B x T x heads | peer | pass | eager | graph | ExactFlow | eager / ours | graph / ours |
|---|---|---|---|---|---|---|---|"""
RATE_HEAD = """
{0}, tokens per second

| case | peer | tokens/s | GiB | ExactFlow deltanet | GiB | efla | ours / peer (deltanet) |
|---|---|---|---|---|---|---|---|"""


def operator_rows(rows, document):
    for row in rows:
        for pass_name in ("forward", "with backward"):
            measurement = find(document, f"{row['ours']} {row['case']}", pass_name)
            ours = 1e3 * measurement["seconds"] if measurement else None
            eager, graph = row[f"{pass_name}, eager"], row[f"{pass_name}, graph"]
            row[f"{pass_name}, ours"] = ours
            label = row["peer"] if row["peer"].startswith(row["ours"]) else f"{row['peer']} (ours: {row['ours']})"
            ratios = [shown(peer / ours if peer and ours else None, "8.2f") for peer in (eager, graph)]
            print(f"| {row['case']} | {label} | {pass_name} | {shown(eager)} | {shown(graph)} | {shown(ours)} | {ratios[0]} | {ratios[1]} |", flush=True)


def rate_rows(rows, our_case, document):
    for row in rows:
        ours, exact = (find(document, our_case(row["case"], rule), rule) for rule in ("deltanet", "efla"))
        rate, peer = ours and ours["rate"], row["tokens per second"]
        memory = ours["memory_bytes"] / 2 ** 30 if ours and ours.get("memory_bytes") else None
        row["ours"] = rate
        print(f"| {row['case']} | {row['peer']} | {shown(peer, '8.0f')} | {shown(row.get('GiB'), '5.1f')} | {shown(rate, '8.0f')} | {shown(memory, '5.1f')} | "
              f"{shown(exact and exact['rate'], '8.0f')} | {shown(rate / peer if rate and peer else None, '8.2f')} |", flush=True)


def our_generation_case(case, rule):
    batch = int(case.split()[1])
    return f"340m, {batch} {'sequence' if batch == 1 else 'sequences'} {rule}"


def shapes(text):
    return [tuple(int(extent) for extent in shape.split("x")) for shape in text.split(",")]


def share_of(text):
    share, shares = text.split("/")
    return int(share), int(shares)


def parse():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--exactflow", help="our program, such as path/to/exactflow or 'dotnet path/to/exactflow.dll'")
    parser.add_argument("--fla", help="folder that holds flash-linear-attention's 'fla'; default: the installed one")
    parser.add_argument("--parts", default="op,train,generate", help="any of op, train, generate")
    parser.add_argument("--shapes", type=shapes, default=SHAPES, help="shapes of the operator, such as 8x2048x8,1x16384x8: batch, time, heads")
    parser.add_argument("--rules", type=lambda text: text.split(","), help="rules of the operator, any of: " + "; ".join(name for name, _, _ in RULES))
    parser.add_argument("--seconds", type=float, default=0.5, help="measuring time of a figure")
    parser.add_argument("--deadline", type=float, help="seconds after which no new figure is begun; what was measured is kept")
    parser.add_argument("--json", help="file for everything measured, written anew after every case")
    parser.add_argument("--warm", action="store_true", help="compile and tune the peer's kernels for all cases, time nothing")
    parser.add_argument("--workers", type=int, default=max(1, min(12, (os.cpu_count() or 1) - 2)), help="processes that compile in --warm")
    parser.add_argument("--compile-share", type=share_of, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    arguments.deadline = peer_fla.Deadline(arguments.deadline)
    parts = arguments.parts.split(",")
    unknown = set(parts) - {"op", "train", "generate"}
    if unknown:
        parser.error(f"--parts takes op, train and generate, but one is '{sorted(unknown)[0]}'")
    return arguments, parts


def main():
    arguments, parts = parse()
    if torch is None or not torch.cuda.is_available():
        sys.exit("This script needs PyTorch with a GPU; see README.md beside it.")
    version = peer_fla.attach(arguments.fla)
    if arguments.compile_share:
        compile_share(arguments, parts)
        return
    if arguments.warm:
        warm(arguments, parts)
        return
    peer_fla.report_tuning()
    result = {"device": torch.cuda.get_device_name(), "torch": torch.__version__, "fla": version, "rows": [], "exactflow": {}}
    print(f"{result['device']}, PyTorch {result['torch']}, flash-linear-attention {version}", flush=True)
    if "op" in parts:
        print(OPERATOR_HEAD, flush=True)
        measure_operators(arguments, result)
    if "train" in parts:
        print(RATE_HEAD.format("training steps, 374M parameters, AdamW and clipping"), flush=True)
        measure_training(arguments, result)
    if "generate" in parts:
        print(RATE_HEAD.format("generation, 374M parameters"), flush=True)
        measure_generation(arguments, result)
    keep(arguments, result, [])


if __name__ == "__main__":
    main()
