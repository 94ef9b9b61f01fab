"""Ratios that can be trusted: two contenders in turn, medians, and a measure of the noise.

A machine that others use is slower for a while and then faster again. A ratio of two medians that
were taken one after the other measures that as well; taken in turn, both contenders run on the same
machine, and the spread of the ratios of single pairs shows whether its speed was constant.
"""

import importlib.metadata
import json
import math
import os
import platform
import re
import statistics
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

# The middle half of the paired ratios spans at most this part of their median, or the machine was
# noisy. Then there is a verdict only if the limit is further from that half than it is wide.
NOISE = 0.25
# A round shorter than this would measure the clock; short calls are repeated within a round.
ROUND_SECONDS = 300e-6
MAX_ROUNDS = 301
# Distance from 1 to the next number.
EPS = {"float64": 2.0**-52, "float32": 2.0**-23, "bfloat16": 2.0**-7}
LIBRARIES = [
    "numpy",
    "llvmlite",
    "torch",
    "transformers",
    "rotary-embedding-torch",
    "onnx",
    "onnxruntime",
    "jax",
    "mlx",
    "cupy-cuda12x",
    "flash-attn",
    "liger-kernel",
    "pytest-benchmark",
]


@dataclass(frozen=True)
class Ratio:
    """The result of one case. Times in milliseconds, medians."""

    case: str
    against: str
    shape: str
    dtype: str
    fast: bool | None  # with the extra; None where it makes no difference
    use: str  # decode, prefill, training or start: a section of book/speed.md
    kib_per_token: float | None  # read and written by a rotation in one pass, all heads
    limit: float | None  # at most; None: for information
    ours_ms: float
    peer_ms: float
    ratio: float
    quartiles: tuple[float, float]  # of the ratios of single pairs
    rounds: int
    verdict: str


@dataclass
class Report:
    """All results of a run."""

    ratios: list[Ratio] = field(default_factory=list)
    sizes: list[dict] = field(default_factory=list)
    memory: list[dict] = field(default_factory=list)
    growth: list[dict] = field(default_factory=list)
    not_measured: list[dict] = field(default_factory=list)

    def leave_out(self, case: str, reason: str) -> None:
        line = {"case": case, "reason": reason}
        if line not in self.not_measured:
            self.not_measured.append(line)


# --- time ----------------------------------------------------------------------------------------


def clock(function, repeat=1):
    """One round of a contender: seconds a call. The last result is freed after the clock stops."""

    def one_round():
        start = time.perf_counter()
        for _ in range(repeat - 1):
            function()
        result = function()
        stop = time.perf_counter()
        del result
        return (stop - start) / repeat

    return one_round


def plan(ours, peer, seconds, fewest):
    """How often a call is repeated within a round, and how many rounds fit into ``seconds``.

    Both have run before, for equality: what is compiled at the first call is compiled.
    """
    slow, quick = sorted((clock(ours)(), clock(peer)()), reverse=True)
    repeat = max(1, math.ceil(ROUND_SECONDS / quick))
    return repeat, max(fewest, min(MAX_ROUNDS, int(seconds / (repeat * (slow + quick)))))


def in_turn(contenders, seconds, fewest):
    """A round of all contenders, {name: (context, function)}, and how many rounds to make.

    A context is entered before the clock starts, and what is short is called once before: entering
    leaves other code in the processor's caches. The round appends to the lists that come first.
    """
    times = {name: [] for name in contenders}

    def one(name, repeat=1):
        context, function = contenders[name]
        with context():
            if repeat > 1:
                function()
            return clock(function, repeat)()

    def a_round():
        for name in contenders:
            times[name].append(one(name, repeats[name]))

    once = {name: one(name) for name in contenders}
    repeats = {name: max(1, math.ceil(ROUND_SECONDS / s)) for name, s in once.items()}
    whole = sum(repeats[name] * s for name, s in once.items())
    return times, a_round, max(fewest, min(MAX_ROUNDS, int(seconds / whole)))


def judge(ours, theirs, limit):
    """Medians in ms, ratio, quartiles of the ratios of pairs, and a verdict."""
    paired = [a / b for a, b in zip(ours, theirs, strict=True)]
    low, middle, high = statistics.quantiles(paired, n=4)
    ours_s, peer_s = statistics.median(ours), statistics.median(theirs)
    ratio = ours_s / peer_s
    noisy, wide = (high - low) / middle > NOISE, high - low
    if noisy and (limit is None or low - wide <= limit <= high + wide):
        verdict = "too noisy"
    elif limit is None:
        verdict = "for information"
    else:
        verdict = "ok" if ratio <= limit else "over"
    return {
        "ours_ms": digits(1e3 * ours_s),
        "peer_ms": digits(1e3 * peer_s),
        "ratio": digits(ratio),
        "quartiles": (digits(low), digits(high)),
        "rounds": len(paired),
        "verdict": verdict,
    }


def digits(value, n=3):
    """Rounded to ``n`` significant digits."""
    return float(f"{value:.{n}g}")


# --- memory --------------------------------------------------------------------------------------


def peak_bytes(function):
    """By how much the process grew at most during ``function``, according to the operating system,
    so memory of every library counts. None where the system does not report it (other than Linux)."""
    try:
        Path("/proc/self/clear_refs").write_text("5")  # resets the high-water mark
        before = _status("VmRSS")
        result = function()
        after = _status("VmHWM")
    except OSError:
        return None
    del result
    return after - before


def _status(name):
    text = Path("/proc/self/status").read_text()
    return 1024 * int(re.search(rf"^{name}:\s*(\d+) kB", text, re.MULTILINE)[1])


# --- equality ------------------------------------------------------------------------------------


def assert_same(ours, expected, dtype, slack=0.0):
    """Equal up to rounding.

    Either side rounds its tables, two products and a sum, each to half an eps: 3 eps/2 of |a| + |b|,
    which is at most 2 max|x|. Twice that is 6 eps max|x|. A rotation preserves the norm of the pair,
    so the largest elements of the result and of the argument differ by at most a factor of √2. ``slack`` is for
    peers that round their angles as well.
    """
    ours = ours if isinstance(ours, tuple) else (ours,)
    expected = expected if isinstance(expected, tuple) else (expected,)
    for a, b in zip(ours, expected, strict=True):
        assert a.shape == b.shape
        tolerance = (6 * math.sqrt(2) * EPS[dtype] + slack) * float(np.max(np.abs(b)))
        off = float(np.max(np.abs(a - b)))
        assert off <= tolerance, f"ours and the peer differ by {off:.2e}, more than {tolerance:.2e}"


# --- the machine ---------------------------------------------------------------------------------


def n_threads():
    """Cores that this process may use; every library gets as many threads."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def machine():
    """What a reader needs to know about the machine, without its name."""
    found = {
        "processor": _processor(),
        "architecture": platform.machine(),
        "cores": n_threads(),
        "caches": _caches(),
        "memory_gib": round(_memory() / 2**30) if _memory() else None,
        "system": platform.system(),
        "python": platform.python_version(),
        "gpu": _gpu(),
    }
    return {name: value for name, value in found.items() if value}


def _read(path):
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""


def _processor():
    named = re.search(r"^model name\s*: (.+)$", _read("/proc/cpuinfo"), re.MULTILINE)
    return named[1] if named else platform.processor()


def _caches():
    kinds = {"Data": "d", "Instruction": "i"}
    found = {}
    for folder in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        kind = kinds.get(_read(folder / "type"), "")
        found[f"L{_read(folder / 'level')}{kind}"] = _read(folder / "size")
    return found


def _memory():
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError):
        return 0


def _gpu():
    try:
        import torch

        return torch.cuda.get_device_name() if torch.cuda.is_available() else ""
    except ImportError:
        return ""


def versions():
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


# --- the table -----------------------------------------------------------------------------------


def table(report):
    """One line per case, as text."""
    rows = [("case", "shape", "dtype", "ours ms", "peer ms", "ratio", "limit", "verdict")]
    for r in report.ratios:
        limit = "" if r.limit is None else f"{r.limit:g}"
        numbers = (f"{r.ours_ms:g}", f"{r.peer_ms:g}", f"{r.ratio:g}", limit)
        rows.append((f"{r.case} / {r.against}", r.shape, r.dtype, *numbers, r.verdict))
    for m in report.memory:
        limit = "" if m["limit"] is None else f"{m['limit']:g}"
        numbers = ("", "", f"{m['ratio']:g}", limit)
        rows.append(
            (f"{m['case']} / {m['against']}", m["shape"], m["dtype"], *numbers, m["verdict"])
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(f"{cell:{w}}" for cell, w in zip(row, widths, strict=True)) for row in rows]
    lines += [f"not measured: {m['case']}: {m['reason']}" for m in report.not_measured]
    for g in report.growth:
        steps = ", ".join(f"{s['mib']:g} MiB {s['ns']:g}" for s in g["steps"])
        lines.append(f"ns per element, {g['case']}, growing {g['axis']}: {steps}")
    return "\n".join(line.rstrip() for line in lines)


def write(report, path):
    """The whole report as JSON, for the book: no date, no host, no path."""
    data = {
        "machine": machine(),
        "threads": n_threads(),
        "versions": versions(),
        "noise": NOISE,
        "ratios": [asdict(r) for r in report.ratios],
        "sizes": report.sizes,
        "memory": report.memory,
        "growth": report.growth,
        "not_measured": report.not_measured,
    }
    text = json.dumps(data, indent=1, ensure_ascii=False)
    # One line for each case, so that a change of one is a change of one line.
    text = re.sub(r"\n {3,}([^ ])", r" \1", text)
    text = re.sub(r"\n {2}([}\]])", r" \1", text)
    Path(path).write_text(text + "\n")
