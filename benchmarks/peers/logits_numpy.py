#!/usr/bin/env python3
"""Checks logits of ExactFlow against a plain float64 implementation in NumPy of what flash-linear-attention computes for `delta_net`, `gated_deltanet` and `mamba2`.

    python logits_numpy.py --exactflow path/to/exactflow                 # random models in every variant, written here as flash-linear-attention writes them
    python logits_numpy.py --exactflow path/to/exactflow --model DIR     # a model folder of yours

Token by token, one loop per line of the definition, so that it can be read beside a paper; slow, and needs NumPy alone. Ends with 1 beyond the tolerance.
"""
import argparse
import json
import os
import shlex
import struct
import subprocess
import sys
import tempfile

import numpy as np

FLOAT32, BFLOAT16 = 2e-5, 3e-2  # relative L2
DTYPES = {"F32": np.float32, "F16": np.float16, "BF16": np.uint16, "I64": np.int64, "F64": np.float64}


# ---------------------------------------------------------------------------------------------------------------- files

def read_safetensors(path):
    with open(path, "rb") as file:
        length, = struct.unpack("<Q", file.read(8))
        header, data = json.loads(file.read(length)), file.read()
    tensors = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        begin, end = entry["data_offsets"]
        values = np.frombuffer(data[begin:end], DTYPES[entry["dtype"]])
        if entry["dtype"] == "BF16":
            values = (values.astype(np.uint32) << 16).view(np.float32)
        tensors[name] = values.reshape(entry["shape"])
    return tensors


def write_safetensors(path, tensors):
    names = {np.dtype(kind): name for name, kind in DTYPES.items()}
    header, position = {"__metadata__": {"format": "pt"}}, 0
    for name, values in tensors.items():
        header[name] = {"dtype": names[values.dtype], "shape": list(values.shape), "data_offsets": [position, position + values.nbytes]}
        position += values.nbytes
    text = json.dumps(header).encode()
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + b"".join(np.ascontiguousarray(values).tobytes() for values in tensors.values()))


def read_folder(folder):
    with open(os.path.join(folder, "config.json"), encoding="utf-8") as file:
        config = json.load(file)
    tensors = {}
    for name in sorted(os.listdir(folder)):
        if name.endswith(".safetensors"):
            tensors.update(read_safetensors(os.path.join(folder, name)))
    return config, {name: values.astype(np.float64) for name, values in tensors.items()}


# ---------------------------------------------------------------------------------------------------------------- the model

def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def silu(x):
    return x * sigmoid(x)


def softplus(x):
    return np.logaddexp(0, x)


def rms_norm(x, weight, eps):
    return x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + eps) * weight


def unit(x):
    return x / np.sqrt(np.sum(x * x, axis=-1, keepdims=True) + 1e-6)


def causal_convolution(x, weight, bias=0.0):
    """x [time, channels], weight [channels, 1, width]: the last weight multiplies the current token."""
    width = weight.shape[-1]
    padded = np.concatenate([np.zeros((width - 1, x.shape[1])), x])
    return sum(padded[i:i + len(x)] * weight[:, 0, i] for i in range(width)) + bias


def delta_layer(x, w, config, gated):
    time, hidden = x.shape
    heads = config["num_heads"]
    value_heads = (config.get("num_v_heads") or heads) if gated else heads
    q, k, v = (silu(causal_convolution(x @ w[f"{n}_proj.weight"].T, w[f"{n}_conv1d.weight"])) for n in "qkv")
    q, k = unit(q.reshape(time, heads, -1)), unit(k.reshape(time, heads, -1))
    v = v.reshape(time, value_heads, -1)
    q, k = (np.repeat(part, value_heads // heads, axis=1) for part in (q, k))
    beta = sigmoid(x @ w["b_proj.weight"].T) * (2 if config.get("allow_neg_eigval") else 1)
    decay = np.exp(-np.exp(w["A_log"]) * softplus(x @ w["a_proj.weight"].T + w["dt_bias"])) if gated else np.ones((time, heads))
    state, output = np.zeros((value_heads, k.shape[-1], v.shape[-1])), np.zeros(v.shape)
    for t in range(time):
        state = state * decay[t][:, None, None]
        error = v[t] - np.einsum("hkv,hk->hv", state, k[t])
        state = state + beta[t][:, None, None] * k[t][:, :, None] * error[:, None, :]
        output[t] = np.einsum("hkv,hk->hv", state, q[t]) * k.shape[-1] ** -0.5
    output = rms_norm(output, w["o_norm.weight"], config["norm_eps"])
    if config.get("use_gate", gated):
        output = output * silu((x @ w["g_proj.weight"].T).reshape(output.shape))
    return output.reshape(time, -1) @ w["o_proj.weight"].T


def mamba2_layer(x, w, config):
    time, hidden = x.shape
    inner, groups, state_size = int(config.get("expand", 2) * hidden), config.get("n_groups", 1), config.get("state_size", 128)
    width, heads = config.get("head_dim", 64), int(config.get("expand", 2) * hidden) // config.get("head_dim", 64)
    gate, mixed, dt = np.split(x @ w["in_proj.weight"].T, [inner, 2 * inner + 2 * groups * state_size], axis=-1)
    mixed = silu(causal_convolution(mixed, w["conv1d.weight"], w["conv1d.bias"]))
    values, b, c = np.split(mixed, [inner, inner + groups * state_size], axis=-1)
    values = values.reshape(time, heads, width)
    b, c = (np.repeat(part.reshape(time, groups, state_size), heads // groups, axis=1) for part in (b, c))
    dt = softplus(dt + w["dt_bias"])
    decay = np.exp(-np.exp(w["A_log"]) * dt)
    state, output = np.zeros((heads, state_size, width)), np.zeros(values.shape)
    for t in range(time):
        state = state * decay[t][:, None, None] + b[t][:, :, None] * (dt[t][:, None] * values[t])[:, None, :]
        output[t] = np.einsum("hsw,hs->hw", state, c[t]) + w["D"][:, None] * values[t]
    eps = config.get("norm_eps", config.get("layer_norm_epsilon", 1e-5))
    gated = (output.reshape(time, inner) * silu(gate)).reshape(time, groups, -1)
    normed = rms_norm(gated, w["norm.weight"].reshape(groups, -1), eps)  # a norm per group, as in the authors' own implementation
    return normed.reshape(time, inner) @ w["out_proj.weight"].T


def parts(weights, prefix):
    return {name[len(prefix):]: values for name, values in weights.items() if name.startswith(prefix)}


def logits(config, weights, ids):
    """Float64 [batch, time, vocabulary]."""
    kind = config["model_type"]
    root, final, eps = ("backbone.", "norm_f", config.get("norm_eps", config.get("layer_norm_epsilon", 1e-5))) if kind == "mamba2" else ("model.", "norm", config["norm_eps"])
    table = weights[root + "embeddings.weight"]
    head = weights.get("lm_head.weight", table)
    result = []
    for sequence in ids:
        x = table[sequence]
        for i in range(config["num_hidden_layers"]):
            w = parts(weights, f"{root}layers.{i}.")
            if kind == "mamba2":
                x = x + mamba2_layer(rms_norm(x, w["norm.weight"], eps), parts(w, "mixer."), config)
                continue
            x = x + delta_layer(rms_norm(x, w["attn_norm.weight"], eps), parts(w, "attn."), config, kind == "gated_deltanet")
            y = rms_norm(x, w["mlp_norm.weight"], eps)
            x = x + (silu(y @ w["mlp.gate_proj.weight"].T) * (y @ w["mlp.up_proj.weight"].T)) @ w["mlp.down_proj.weight"].T
        result.append(rms_norm(x, weights[root + final + ".weight"], eps) @ head.T)
    return np.stack(result)


# ---------------------------------------------------------------------------------------------------------------- random folders

COMMON = dict(hidden_size=64, num_hidden_layers=2, vocab_size=199, initializer_range=0.02, tie_word_embeddings=False, bos_token_id=1, eos_token_id=2, pad_token_id=None, use_cache=True,
              fuse_norm=True, fuse_cross_entropy=True, fuse_linear_cross_entropy=False, use_l2warp=False, transformers_version="5.17.0", dtype="float32")
MLP = dict(hidden_act="swish", hidden_ratio=4, intermediate_size=None, norm_eps=1e-6, max_position_embeddings=2048, attn=None, attn_mode="chunk", conv_size=4, fuse_swiglu=True,
           attnres_block_size=None, use_short_conv=True)
DELTA = {**COMMON, **MLP, "model_type": "delta_net", "architectures": ["DeltaNetForCausalLM"], "expand_k": 1.0, "expand_v": 1.0, "use_gate": False, "allow_neg_eigval": False,
         "use_beta": True, "use_output_norm": True, "num_heads": 2, "qk_norm": "l2", "qk_activation": "silu"}
GATED = {**COMMON, **MLP, "model_type": "gated_deltanet", "architectures": ["GatedDeltaNetForCausalLM"], "expand_v": 2.0, "use_gate": True, "allow_neg_eigval": False,
         "head_dim": 32, "num_heads": 2, "num_v_heads": None}
MAMBA = {**COMMON, "model_type": "mamba2", "architectures": ["Mamba2ForCausalLM"], "head_dim": 32, "state_size": 16, "norm_eps": 1e-5, "expand": 2, "conv_kernel": 4, "n_groups": 1,
         "use_bias": False, "use_conv_bias": True, "conv_init": None, "A_init_range": [1, 16], "D_has_hdim": False, "hidden_act": "silu", "residual_in_fp32": True, "dt_min": 0.001,
         "dt_max": 0.1, "dt_init_floor": 1e-4, "dt_limit": [0.0, float("inf")], "rescale_prenorm_residual": True, "rmsnorm": True, "norm_before_gate": False, "chunk_size": 256,
         "num_heads": 4, "pad_token_id": 0}
MODELS = {
    "delta_net": DELTA,
    "delta_net, output gate, expand_v 2, negative eigenvalues": {**DELTA, "use_gate": True, "expand_v": 2.0, "allow_neg_eigval": True, "norm_eps": 1e-2},
    "delta_net, tied, conv 3, expand_k 0.5": {**DELTA, "tie_word_embeddings": True, "conv_size": 3, "expand_k": 0.5, "intermediate_size": 96},
    "gated_deltanet": GATED,
    "gated_deltanet, value heads, expand_v 1": {**GATED, "num_v_heads": 4, "expand_v": 1.0, "intermediate_size": 160},
    "gated_deltanet, negative eigenvalues": {**GATED, "allow_neg_eigval": True},
    "mamba2": MAMBA,
    "mamba2, epsilon 0.01": {**MAMBA, "norm_eps": 1e-2},
}


def shapes(config):
    hidden, vocabulary = config["hidden_size"], config["vocab_size"]
    if config["model_type"] == "mamba2":
        inner, heads = config["expand"] * hidden, config["num_heads"]
        mixed = inner + 2 * config["n_groups"] * config["state_size"]
        layer = {"norm.weight": [hidden], "mixer.A_log": [heads], "mixer.D": [heads], "mixer.dt_bias": [heads], "mixer.conv1d.weight": [mixed, 1, config["conv_kernel"]],
                 "mixer.conv1d.bias": [mixed], "mixer.in_proj.weight": [inner + mixed + heads, hidden], "mixer.norm.weight": [inner], "mixer.out_proj.weight": [hidden, inner]}
        root, final = "backbone.", "norm_f"
    else:
        gated, heads = config["model_type"] == "gated_deltanet", config["num_heads"]
        value_heads = (config.get("num_v_heads") or heads) if gated else heads
        keys = heads * config["head_dim"] if gated else int(hidden * config["expand_k"])
        values = value_heads * int(config["head_dim"] * config["expand_v"]) if gated else int(hidden * config["expand_v"])
        inner = config["intermediate_size"] or (int(hidden * 4 * 2 / 3) + 255) // 256 * 256
        layer = {"attn_norm.weight": [hidden], "attn.q_proj.weight": [keys, hidden], "attn.k_proj.weight": [keys, hidden], "attn.v_proj.weight": [values, hidden],
                 "attn.b_proj.weight": [value_heads, hidden], "attn.q_conv1d.weight": [keys, 1, config["conv_size"]], "attn.k_conv1d.weight": [keys, 1, config["conv_size"]],
                 "attn.v_conv1d.weight": [values, 1, config["conv_size"]], "attn.o_norm.weight": [values // value_heads], "attn.o_proj.weight": [hidden, values],
                 "mlp_norm.weight": [hidden], "mlp.gate_proj.weight": [inner, hidden], "mlp.up_proj.weight": [inner, hidden], "mlp.down_proj.weight": [hidden, inner]}
        if gated:
            layer.update({"attn.a_proj.weight": [value_heads, hidden], "attn.A_log": [value_heads], "attn.dt_bias": [value_heads]})
        if config["use_gate"]:
            layer["attn.g_proj.weight"] = [values, hidden]
        root, final = "model.", "norm"
    result = {root + "embeddings.weight": [vocabulary, hidden], root + final + ".weight": [hidden]}
    for i in range(config["num_hidden_layers"]):
        result.update({f"{root}layers.{i}.{name}": shape for name, shape in layer.items()})
    if not config["tie_word_embeddings"]:
        result["lm_head.weight"] = [vocabulary, hidden]
    return result


def drawn(name, shape, random):
    """Values at which every tensor matters."""
    leaf = name.split(".")[-1]
    low, high = {"A_log": (-3, 1), "dt_bias": (-4, 0), "D": (-1, 1), "bias": (-1, 1)}.get(leaf, (0.5, 1.5) if "norm" in name else (0, 0))
    if low != high:
        return random.uniform(low, high, shape).astype(np.float32)
    scale = 0.4 if "conv1d" in name else 1.0 if "embeddings" in name else shape[-1] ** -0.5
    return (scale * random.standard_normal(shape)).astype(np.float32)


def write_folder(folder, config, random, shards):
    os.makedirs(folder)
    with open(os.path.join(folder, "config.json"), "w", encoding="utf-8") as file:
        json.dump(config, file, indent=2)
    tensors = {name: drawn(name, shape, random) for name, shape in shapes(config).items()}
    if shards == 1:
        write_safetensors(os.path.join(folder, "model.safetensors"), tensors)
        return
    names, weight_map = list(tensors), {}
    for i in range(shards):
        file = f"model-{i + 1:05}-of-{shards:05}.safetensors"
        part = names[i::shards]
        write_safetensors(os.path.join(folder, file), {name: tensors[name] for name in part})
        weight_map.update({name: file for name in part})
    with open(os.path.join(folder, "model.safetensors.index.json"), "w", encoding="utf-8") as file:
        json.dump({"metadata": {"total_size": sum(values.nbytes for values in tensors.values())}, "weight_map": weight_map}, file)


# ---------------------------------------------------------------------------------------------------------------- comparing

def our_logits(command, folder, ids, device, precision, work):
    source, target = os.path.join(work, "ids.safetensors"), os.path.join(work, "logits.safetensors")
    write_safetensors(source, {"input_ids": ids})
    done = subprocess.run([*command, "logits", "--model", folder, "--input", source, "--output", target, "--device", device, "--precision", precision], capture_output=True, text=True)
    if done.returncode != 0:
        return None, (done.stderr.strip() or done.stdout.strip())
    return read_safetensors(target)["logits"], ""


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--exactflow", required=True, help="our program, such as path/to/exactflow or 'dotnet path/to/exactflow.dll'")
    parser.add_argument("--model", help="a folder of delta_net, gated_deltanet or mamba2; default: random ones of every variant")
    parser.add_argument("--devices", default="cpu", help="devices of ours, any of cpu, cuda")
    parser.add_argument("--tokens", type=int, default=70, help="length of the two sequences")
    arguments = parser.parse_args()
    command, random, bad = shlex.split(arguments.exactflow), np.random.default_rng(5), 0
    print("| model | files | ExactFlow | relative L2 | greatest difference | within |\n|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as work:
        folders = [(arguments.model, "as given", arguments.model)] if arguments.model else []
        for name, config in [] if arguments.model else MODELS.items():
            for files, shards in (("one", 1), ("three", 3)):
                folder = os.path.join(work, f"{name} {files}")
                write_folder(folder, config, random, shards)
                folders.append((name, files, folder))
        for name, files, folder in folders:
            config, weights = read_folder(folder)
            ids = random.integers(config["vocab_size"], size=(2, arguments.tokens))
            expected = logits(config, weights, ids)
            for device in arguments.devices.split(","):
                for precision in ("float32",) if device == "cpu" else ("float32", "bfloat16"):
                    got, error = our_logits(command, folder, ids, device, precision, work)
                    relative = np.linalg.norm(got - expected) / np.linalg.norm(expected) if got is not None else float("nan")
                    fine = relative <= (FLOAT32 if precision == "float32" else BFLOAT16)
                    bad += not fine
                    greatest = f"{np.abs(got - expected).max():.2e}" if got is not None else error
                    print(f"| {name} | {files} | {device} {precision} | {relative:.2e} | {greatest} | {'yes' if fine else 'NO'} |", flush=True)
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
