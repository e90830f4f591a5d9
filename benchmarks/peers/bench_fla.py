#!/usr/bin/env python3
"""Times flash-linear-attention and ExactFlow on the same shapes, on the same GPU, in the same run.

    python bench_fla.py --exactflow path/to/exactflow                     # operator, training step, generation
    python bench_fla.py --exactflow path/to/exactflow --parts op          # the operator alone
    python bench_fla.py --parts op,train                                  # only the peer

Needs PyTorch with CUDA and flash-linear-attention; see README.md beside this file. Their operator is timed as a user calls it ("eager") and replayed from a CUDA
graph. Ours is what `exactflow bench --device cuda --json` says. A ratio above 1 means that ours takes less time.
"""
import argparse
import json
import shlex
import statistics
import subprocess
import sys

DIM = 128
SHAPES = [(8, 2048, 8), (32, 2048, 8), (1, 16384, 8), (1, 131072, 16)]
TRAINING = [(8, 2048), (1, 16384), (32, 2048)]
BATCHES = [1, 32]
VOCABULARY = 32000

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


def attempt(what, measure):
    """A figure, or None with the reason: one shape that does not fit must not end the run."""
    try:
        return measure()
    except Exception as error:  # the peer's errors are of every kind
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
        print(f"  {what}: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}", file=sys.stderr)
        return None


# ---------------------------------------------------------------------------------------------------------------- what is timed

def peer_operators(arguments):
    from fla.ops.delta_rule import chunk_delta_rule
    from fla.ops.gated_delta_rule import chunk_gated_delta_rule
    fla = {"delta": chunk_delta_rule, "gated": chunk_gated_delta_rule}
    rows = []
    for batch, time, heads in arguments.shapes:
        torch.manual_seed(1)
        q, k, v, grad = (torch.randn(batch, time, heads, DIM, device="cuda", dtype=torch.bfloat16) for _ in range(4))
        q, k = q * DIM ** -0.5, k * DIM ** -0.5
        beta = torch.rand(batch, time, heads, device="cuda", dtype=torch.bfloat16)
        g = -0.1 * torch.rand(batch, time, heads, device="cuda", dtype=torch.float32)
        for name, rule, ours in (entry for entry in RULES if not arguments.rules or entry[0] in arguments.rules):
            given = [q, normalised(k) if rule is deltanet_unit_keys else k, v, beta, g]
            inputs = [x.detach().clone().requires_grad_() for x in given]
            wanted = inputs if "gated" in name else inputs[:4]

            def forward():
                with torch.no_grad():
                    return rule(fla, *inputs)

            def both():
                return torch.autograd.grad(rule(fla, *inputs), wanted, grad)

            case = f"{batch} x {time} x {heads}"
            row = {"part": "op", "case": case, "peer": name, "ours": ours}
            for pass_name, work in (("forward", forward), ("with backward", both)):
                row[f"{pass_name}, eager"] = attempt(f"{case} {name} {pass_name}, eager", lambda: milliseconds(work, arguments.seconds))
                row[f"{pass_name}, graph"] = attempt(f"{case} {name} {pass_name}, graph", lambda: milliseconds(captured(work), arguments.seconds))
            rows.append(row)
        del q, k, v, grad, beta, g
        torch.cuda.empty_cache()
    return rows


def peer_model(dtype):
    from fla.models import DeltaNetConfig, DeltaNetForCausalLM
    config = DeltaNetConfig(hidden_size=1024, num_heads=8, num_hidden_layers=24, intermediate_size=2816, vocab_size=VOCABULARY, max_position_embeddings=131072)
    torch.manual_seed(1)
    model = DeltaNetForCausalLM(config).to("cuda", dtype)
    print(f"  the peer's DeltaNet: {sum(p.numel() for p in model.parameters()) / 1e6:.0f}M parameters", file=sys.stderr)
    return model


def training_step(model, optimizer, ids, autocast):
    def step():
        with torch.autocast("cuda", torch.bfloat16, enabled=autocast):
            loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return step


def peer_training(arguments):
    rows = []
    for kind, dtype in (("float32 weights, autocast", torch.float32), ("bfloat16 weights", torch.bfloat16)):
        model = attempt(kind, lambda: peer_model(dtype))
        if model is None:
            continue
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, betas=(0.9, 0.95), weight_decay=0.1, fused=True)
        for batch, time in TRAINING:
            ids = torch.randint(VOCABULARY, (batch, time), device="cuda")
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
            case = f"{batch} x {time}"
            taken = attempt(f"{case} {kind}", lambda: milliseconds(training_step(model, optimizer, ids, dtype == torch.float32), arguments.seconds))
            rows.append({"part": "train", "case": case, "peer": kind, "tokens per second": taken and 1e3 * batch * time / taken, "GiB": torch.cuda.max_memory_allocated() / 2 ** 30})
            optimizer.zero_grad(set_to_none=True)
        del model, optimizer
        torch.cuda.empty_cache()
    return rows


def peer_generation(arguments, prompt_length=512, tokens=64):
    model = attempt("generation", lambda: peer_model(torch.bfloat16).eval())
    rows = []
    for batch in BATCHES if model is not None else []:
        prompt = torch.randint(3, VOCABULARY, (batch, prompt_length), device="cuda")

        def generate(count):
            with torch.inference_mode():
                model.generate(prompt, attention_mask=torch.ones_like(prompt), min_new_tokens=count, max_new_tokens=count, do_sample=True, top_k=50, use_cache=True, pad_token_id=0)

        def rate():
            generate(4)
            start, middle, end = (torch.cuda.Event(enable_timing=True) for _ in range(3))
            start.record()
            generate(1)
            middle.record()
            generate(1 + tokens)
            end.record()
            end.synchronize()
            return 1e3 * batch * tokens / (middle.elapsed_time(end) - start.elapsed_time(middle))

        rows.append({"part": "generate", "case": f"batch {batch}", "peer": "deltanet, generate()", "tokens per second": attempt(f"generation at batch {batch}", rate)})
    return rows


def exactflow(arguments, suite, *more):
    """The document of one suite of ours, or None when no program was given."""
    if not arguments.exactflow:
        return None
    command = [*shlex.split(arguments.exactflow), "bench", suite, "--device", "cuda", "--json", "--seconds", str(arguments.seconds), *more]
    print(f"  {shlex.join(command)}", file=sys.stderr)
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        print(f"  ended with {done.returncode}", file=sys.stderr)
        return None
    return json.loads(done.stdout)


# ---------------------------------------------------------------------------------------------------------------- tables

def find(document, case, contender):
    for measurement in (document or {}).get("measurements", []):
        if measurement["case"] == case and measurement["contender"] == contender:
            return measurement
    return None


def shown(value, form="8.3f"):
    return f"{value:{form}}" if value is not None else "       -"


def operator_table(rows, document):
    print(f"\ndelta rule, K = V = {DIM}, bfloat16, milliseconds; ratios are the peer's time divided by ours\n")
    print("| B x T x heads | peer | pass | eager | graph | ExactFlow | eager / ours | graph / ours |\n|---|---|---|---|---|---|---|---|")
    for row in rows:
        for pass_name in ("forward", "with backward"):
            measurement = find(document, f"{row['ours']} {row['case']}", pass_name)
            ours = 1e3 * measurement["seconds"] if measurement else None
            eager, graph = row[f"{pass_name}, eager"], row[f"{pass_name}, graph"]
            row[f"{pass_name}, ours"] = ours
            label = row["peer"] if row["peer"].startswith(row["ours"]) else f"{row['peer']} (ours: {row['ours']})"
            ratios = [shown(peer / ours if peer and ours else None, "8.2f") for peer in (eager, graph)]
            print(f"| {row['case']} | {label} | {pass_name} | {shown(eager)} | {shown(graph)} | {shown(ours)} | {ratios[0]} | {ratios[1]} |")


def rate_table(title, rows, our_case, document):
    print(f"\n{title}, tokens per second\n")
    print("| case | peer | tokens/s | GiB | ExactFlow deltanet | GiB | efla | ours / peer (deltanet) |\n|---|---|---|---|---|---|---|---|")
    for row in rows:
        ours, exact = (find(document, our_case(row["case"], rule), rule) for rule in ("deltanet", "efla"))
        rate, peer = ours and ours["rate"], row["tokens per second"]
        memory = ours["memory_bytes"] / 2 ** 30 if ours and ours.get("memory_bytes") else None
        row["ours"] = rate
        print(f"| {row['case']} | {row['peer']} | {shown(peer, '8.0f')} | {shown(row.get('GiB'), '5.1f')} | {shown(rate, '8.0f')} | {shown(memory, '5.1f')} | "
              f"{shown(exact and exact['rate'], '8.0f')} | {shown(rate / peer if rate and peer else None, '8.2f')} |")


def our_generation_case(case, rule):
    batch = int(case.split()[1])
    return f"340m, {batch} {'sequence' if batch == 1 else 'sequences'} {rule}"


def merged(documents):
    """The documents of several runs of ours as one."""
    documents = [document for document in documents if document]
    return {**documents[0], "measurements": [line for document in documents for line in document["measurements"]]} if documents else None


def shapes(text):
    return [tuple(int(extent) for extent in shape.split("x")) for shape in text.split(",")]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--exactflow", help="our program, such as path/to/exactflow or 'dotnet path/to/exactflow.dll'")
    parser.add_argument("--parts", default="op,train,generate", help="any of op, train, generate")
    parser.add_argument("--shapes", type=shapes, default=SHAPES, help="shapes of the operator, such as 8x2048x8,1x16384x8: batch, time, heads")
    parser.add_argument("--rules", type=lambda text: text.split(","), help="rules of the operator, any of " + ", ".join(name for name, _, _ in RULES))
    parser.add_argument("--seconds", type=float, default=0.5, help="measuring time of a figure")
    parser.add_argument("--json", help="file for everything measured")
    arguments = parser.parse_args()
    parts = arguments.parts.split(",")
    unknown = set(parts) - {"op", "train", "generate"}
    if unknown:
        parser.error(f"--parts takes op, train and generate, but one is '{sorted(unknown)[0]}'")
    if torch is None or not torch.cuda.is_available():
        sys.exit("This script needs PyTorch with a GPU; see README.md beside it.")

    result = {"device": torch.cuda.get_device_name(), "torch": torch.__version__, "rows": [], "exactflow": {}}
    try:
        import fla
        result["fla"] = getattr(fla, "__version__", "unknown")
    except ImportError:
        sys.exit("This script needs flash-linear-attention (pip install flash-linear-attention); see README.md beside it.")
    print(f"{result['device']}, PyTorch {result['torch']}, flash-linear-attention {result['fla']}")

    if "op" in parts:
        rows = peer_operators(arguments)
        document = merged(exactflow(arguments, "op", "--filter", " x ".join(str(extent) for extent in shape)) for shape in arguments.shapes)
        operator_table(rows, document)
        result["rows"] += rows
        result["exactflow"]["op"] = document
    if "train" in parts:
        rows = peer_training(arguments)
        document = exactflow(arguments, "train")
        rate_table("training steps, 374M parameters, AdamW and clipping", rows, lambda case, rule: f"340m {case}", document)
        result["rows"] += rows
        result["exactflow"]["train"] = document
    if "generate" in parts:
        rows = peer_generation(arguments)
        document = exactflow(arguments, "generate", "--filter", "sequence")
        rate_table("generation, 374M parameters", rows, our_generation_case, document)
        result["rows"] += rows
        result["exactflow"]["generate"] = document
    if arguments.json:
        with open(arguments.json, "w", encoding="utf-8") as file:
            json.dump(result, file, indent=1)


if __name__ == "__main__":
    main()
