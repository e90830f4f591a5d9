"""What the scripts beside this file share: flash-linear-attention imported piece by piece, progress on stderr, and its kernels compiled by several processes.

flash-linear-attention's kernels are Triton's: the first call of each compiles every configuration it may choose from, one after the other, and then times them.
For one shape of the operator these are some hundred compilations, which is minutes before the first figure. Two things make that bearable and visible:

- `compile_only` turns a process into a compiler: it walks through the same calls, but compiles its share of the configurations instead of launching anything. Several such
  processes fill Triton's cache on disk together.
- `report_tuning` prints a line for every kernel that was tuned. What was chosen is kept on disk too (`cache_results`, which flash-linear-attention asks for), so a later
  process neither compiles nor tunes.
"""
import importlib.util
import itertools
import os
import sys
import time
import types

START = time.monotonic()
PACKAGES = ["fla", "fla.ops", "fla.layers", "fla.models"]


def say(text):
    """One line of progress, seen at once."""
    print(f"  [{time.monotonic() - START:6.1f} s] {text}", file=sys.stderr, flush=True)


def one_line(error):
    text = str(error).strip()
    return f"{type(error).__name__}: {text.splitlines()[0][:300] if text else ''}"


class Deadline:
    """Seconds since the script's start after which nothing new is begun; None for no limit."""

    def __init__(self, seconds):
        self.seconds = seconds

    def remaining(self):
        return float("inf") if self.seconds is None else self.seconds - (time.monotonic() - START)

    def passed(self):
        return self.remaining() <= 0


def attach(folder=None):
    """Makes `fla` importable and returns its version.

    The package's own __init__ files import every layer and model there is, with whatever those need; here they stand as empty packages,
    so that `fla.ops.delta_rule` brings the delta rule alone.
    """
    os.environ.setdefault("TRITON_CACHE_AUTOTUNING", "1")
    os.environ.setdefault("FLA_TILELANG", "0")
    if folder is None:
        found = importlib.util.find_spec("fla")
        if found is None or not found.submodule_search_locations:
            sys.exit("This script needs flash-linear-attention (pip install flash-linear-attention, or --fla DIR with its 'fla' folder); see README.md beside it.")
        root = list(found.submodule_search_locations)[0]
    else:
        root = folder if os.path.exists(os.path.join(folder, "ops")) else os.path.join(folder, "fla")
        if not os.path.exists(os.path.join(root, "ops", "delta_rule")):
            sys.exit(f"--fla {folder} holds no flash-linear-attention: expected fla/ops/delta_rule in it.")
    version = "unknown"
    with open(os.path.join(root, "__init__.py"), encoding="utf-8") as file:
        for line in file:
            if line.startswith("__version__"):
                version = line.split("=")[1].strip().strip("'\"")
    for name in PACKAGES:
        package = types.ModuleType(name)
        package.__path__ = [os.path.join(root, *name.split(".")[1:])]
        package.__version__ = version
        sys.modules[name] = package
        if "." in name:
            setattr(sys.modules["fla"], name.split(".")[1], package)
    return version


def call_key(tuner, arguments, named):
    """Tells the calls of a tuned kernel apart that Triton compiles apart."""
    given = {**dict(zip(tuner.arg_names, arguments)), **named}
    marks = []
    for name, value in sorted(given.items()):
        if hasattr(value, "dtype"):
            marks.append((name, str(value.dtype)))
        elif name in tuner.keys or value is None or isinstance(value, (bool, str)):
            marks.append((name, str(value)))
    return id(tuner), tuple(marks)


def compile_only(share, shares):
    """From here on tuned kernels are not launched: of each one's configurations this process compiles every `shares`-th. Call it before importing anything of fla."""
    from triton.runtime.autotuner import Autotuner
    position, seen, failed = itertools.count(), set(), []

    def run(self, *arguments, **named):
        named.pop("warmup", None)
        key = call_key(self, arguments, named)
        if key in seen:
            return
        seen.add(key)
        self.nargs = dict(zip(self.arg_names, arguments))
        for config in self.prune_configs(named):
            if next(position) % shares != share:
                continue
            try:
                kernel = self.fn.warmup(*arguments, **named, **config.all_kwargs())
                kernel._init_handles()  # builds the launcher, which is cached as well; too much shared memory shows here
            except Exception as error:  # a configuration that this GPU cannot run is one the tuner will pass over, too
                failed.append(one_line(error))
        self.nargs = None

    Autotuner.run = run
    return seen, failed


def report_tuning():
    """Prints a line for each kernel that is tuned, or whose choice was read from disk slowly. Call it before importing anything of fla."""
    from triton.runtime.autotuner import Autotuner
    original = Autotuner.run
    counts = {"kernels": 0, "seconds": 0.0}

    def run(self, *arguments, **named):
        known, start = len(self.cache), time.monotonic()
        result = original(self, *arguments, **named)
        if len(self.cache) > known:
            taken = time.monotonic() - start
            counts["kernels"] += 1
            counts["seconds"] += taken
            if taken > 0.5:
                say(f"tuned {getattr(self.base_fn, '__name__', 'a kernel')}: {len(self.configs)} configurations in {taken:.1f} s")
        return result

    Autotuner.run = run
    return counts
