"""Thousands of broken configs: ``python tests/fuzz/configs.py --seed 3 --seconds 600``.

Each case is a config of the tests, of a family or of an architecture, mutated by what its number and the
seed say, and read by one of the public functions, as a mapping or as a file. What comes out must be a
result or a ValueError or TypeError in one sentence that names a key; without a warning, without output,
within two seconds and 200 MB. A result must have finite frequencies, be hashable and picklable, come out
once more the same, and be read again from what `to_config` makes of it; the config must be as it was. A
number that says how positions are encoded must change the result, or be refused. A failure is printed as
a call without what it does not need; ``--only N`` makes case N alone.
"""

import argparse
import collections
import contextlib
import copy
import io
import json
import math
import os
import pickle
import re
import resource
import signal
import sys
import tempfile
import time
import types
import warnings
from pathlib import Path

import numpy as np

sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parents[1])]

from config_files import make_file
from config_mutations import Endless, Lying, Mutator, Odd, Raising, mutate, read_seeds

import rope_xp
from rope_xp import RoPE, configs
from rope_xp._config_reader.table import is_known
from rope_xp.configs._compare import is_same

MEMORY, CPU_SECONDS = 200 * 2**20, 2.0
LONGEST = 500  # characters of a message
ARGUMENTS = {
    "config",
    "layout",
    "part",
    "layer_type",
    "precision",
    "seq_len",
    "config_or_ropes",
    "ropes",
}
# Words of Python's and NumPy's own errors.
FOREIGN = re.compile(
    r"object (?:has no|is not|cannot)|not supported between|unsupported operand|could not convert|invalid literal|"
    r"unhashable|ambiguous|positional argument|cannot be interpreted|must be real number|argument must be|"
    r"index out of|out of range|concatenate|planted|not JSON serializable|codec can't|NoneType|list indices"
)
# Families whose rotated part follows from sizes that `to_config` does not write.
BY_OTHER_SIZES = {"clvp_encoder", "edgetam_video", "sam2_video"}
FILES = 0.15  # the share of them
LAYOUTS = (None, None, "half", "interleaved")


# What was opened, and run, while a case was read; Python's own modules do not count.
opened = []


def audit(event, arguments):
    if event == "open" and isinstance(arguments[0], (str, bytes)):
        name = os.fsencode(arguments[0])
        if not name.endswith((b".py", b".pyc", b".so")) and not name.startswith(
            (LIBRARY, b"/proc/self/")
        ):
            opened.append(name)
    elif event in {"os.system", "subprocess.Popen", "os.exec", "os.posix_spawn", "socket.connect"}:
        opened.append(event.encode())


LIBRARY = os.fsencode(Path(rope_xp.__file__).parent)


class Hang(BaseException):
    """A call that did not end."""


def stop(_number, _frame):
    raise Hang


@contextlib.contextmanager
def bounded():
    """Little memory and time, no warnings, no output."""
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + MEMORY, resource.RLIM_INFINITY))
    signal.signal(signal.SIGPROF, stop)
    signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)  # other processes do not count
    signal.alarm(60)  # what waits takes no time
    try:
        with warnings.catch_warnings(action="error"):
            yield
    finally:
        signal.alarm(0)
        signal.setitimer(signal.ITIMER_PROF, 0)
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


def outcome(function, *args, **options):
    """("ok", result) or ("error", exception)."""
    out = io.StringIO()
    try:
        with bounded(), contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
            result = function(*args, **options)
    except (Exception, Hang) as error:  # noqa: BLE001 - whatever escapes
        return "error", error
    return (
        ("error", RuntimeError(f"printed {out.getvalue()[:100]!r}"))
        if out.getvalue()
        else ("ok", result)
    )


# -- what is wrong with an outcome -----------------------------------------------------------------


def keys_in(value, depth=0):
    """All keys of a config and of what is in it."""
    if isinstance(value, dict) and depth < 8:
        for key, one in [*value.items()][:2000]:
            yield str(key)
            yield from keys_in(one, depth + 1)
    elif isinstance(value, list) and depth < 8:
        for one in value[:20]:
            yield from keys_in(one, depth + 1)


def problem_of_error(error, config):
    """What is wrong with an exception, or None."""
    text = str(error)
    if not isinstance(error, (ValueError, TypeError)) or isinstance(error, UnicodeError):
        return f"{type(error).__name__} escapes: {text[:200]}"
    if len(text) > LONGEST:
        return f"a message of {len(text)} characters: {text}"
    if not text.isprintable():
        return f"no line of text: {text!r}"
    # After a sentence about a file or an object, the words of a parser or of its own error follow.
    ours = re.split(r" that can be read|file, got '[^']*': |UTF-8, got '[^']*': ", text)[0]
    if FOREIGN.search(ours.replace("got NoneType", "")):
        return f"not a sentence of ours: {text}"
    words = {*re.findall(r"[\w.]+", text)}
    keys = {*keys_in(config), "rotary_dim"}
    is_default = "_class_name" in keys  # of diffusers, whose classes have values for all
    named = (
        is_default
        or words & (ARGUMENTS | keys)
        or "required" in text
        or any(key in text for key in keys)
    )
    return None if named else f"no key is named: {text}"


def problem_of_ropes(ropes):
    """What is wrong with encodings, or None."""
    for rope in {*ropes} - {None}:
        for length in (None, 2**20):
            found = rope.frequencies(length)
            matrix = np.asarray(found.inv_freq)
            factors = (found.attention_factor, found.softmax_factor)
            if not np.all(np.isfinite(matrix)) or not all(
                math.isfinite(f) and f > 0 for f in factors
            ):
                return f"numbers that are not finite: {rope}"
            if (
                np.any(matrix < 0)
                and "Negated" not in repr(rope)
                and "Directions" not in repr(rope)
            ):
                return f"negative frequencies: {rope}"
        if pickle.loads(pickle.dumps(rope)) != rope or copy.deepcopy(rope) != rope:
            return f"a copy differs: {rope}"
        if len(repr(rope)) > 10**6:
            return "a repr without end"
    return None


def problem_of_round_trip(ropes, model_type):
    """What is wrong with what `to_config` makes of encodings, or None."""
    kind, made = outcome(configs.to_config, ropes, model_type=model_type)
    if kind == "error":
        text = str(made)
        is_sentence = (
            isinstance(made, (ValueError, TypeError)) and "`" in text and text.isprintable()
        )
        return (
            None
            if is_sentence and not FOREIGN.search(text)
            else f"to_config: {type(made).__name__}: {text[:300]}"
        )
    layers = ropes if isinstance(ropes, tuple) else (ropes,)
    layout = (
        next(rope.layout for rope in layers if rope is not None) if model_type is None else None
    )
    if model_type is not None and not isinstance(ropes, tuple):
        return None  # layers of the family may differ
    made = json.loads(json.dumps(made, allow_nan=False))
    width = next((rope.head_dim for rope in layers if rope is not None), 8)
    sizes = {"hidden_size": 8 * width, "num_attention_heads": 8}
    if model_type is not None:
        made = {**sizes, **made}
    if not isinstance(ropes, tuple):
        made["num_hidden_layers"] = 1
    kind, again = outcome(configs.layer_ropes, made, layout=layout)
    if kind == "error" and not isinstance(ropes, tuple):
        return None  # a family with layers that do not rotate, or differ
    if kind == "error":
        return f"to_config gives {made}, which is refused: {again}"
    again = [rope for rope in again if rope is not None] if layers is not ropes else again
    same = len(again) == len(layers) and all(map(is_same, layers, again))
    return None if same else f"to_config gives {made}, which is read as other encodings"


def is_alike(a, b):
    """Whether two results say the same."""
    return type(a) is type(b) and a == b


# -- cases -----------------------------------------------------------------------------------------


class Config:
    """An object with ``to_dict``."""

    def __init__(self, made):
        self.made = made

    def to_dict(self):
        if isinstance(self.made, Exception):
            raise self.made
        return self.made


class Broken:
    """An object whose attributes raise."""

    def __getattr__(self, name):
        raise RuntimeError(name)


class Text(str):
    """A path that is text of its own kind."""


def wrapped(m, config):
    """The config as another object."""
    return m.pick((
        lambda: collections.UserDict(config), lambda: types.MappingProxyType(config),
        lambda: collections.defaultdict(dict, config), lambda: collections.OrderedDict(config),
        lambda: Config(config), lambda: Config(None), lambda: Config([config]), lambda: Config(Config(config)),
        lambda: Config(KeyError("planted")), lambda: Config(RuntimeError("planted")), lambda: Raising(),
        lambda: Raising(RuntimeError), Endless, lambda: Lying(config), Odd, Broken, lambda: [config],
        lambda: types.SimpleNamespace(fields=None, tensors=None), lambda: config.items(), lambda: b"config.json",
        lambda: types.SimpleNamespace(fields=config, tensors=[1]), lambda: Text("none.json"), lambda: "",
        lambda: types.SimpleNamespace(**{k: v for k, v in config.items() if k.isidentifier()}),
    ))()  # fmt: skip


class Case:
    """What is called, with what."""

    def __init__(self, seed, number, seeds):
        m = Mutator(np.random.default_rng([seed, number]), seeds)
        self.base = m.pick(seeds)
        self.config, self.done = mutate(m, self.base)
        self.given = wrapped(m, self.config) if m.chance(0.04) else self.config
        self.layout, self.part = m.pick(LAYOUTS), "vision" if m.chance(0.1) else "text"
        self.entry = m.pick(
            ("layers",) * 6 + ("one", "one", "explain", "explain", "difference", "shell")
        )
        self.entry, self.m = "file" if m.chance(FILES) else self.entry, m
        self.entry = "plot" if m.chance(0.0005) else self.entry
        self.seq_len = m.pick((None, 1, 4096, 10**7))
        self.layer_type = m.pick((None, None, "full_attention", "sliding_attention", "x"))
        self.names_family = m.chance(0.5)

    def call(self, config):
        """The result of the function that the case is about."""
        options = {"layout": self.layout, "part": self.part}
        match self.entry:
            case "layers":
                return configs.layer_ropes(config, **options)
            case "one":
                return RoPE.from_config(config, layer_type=self.layer_type, **options)
            case "explain":
                return configs.explain(config, self.seq_len, **options)
            case "difference":
                return configs.explain_difference(self.base, config, self.seq_len, **options)
            case "plot":
                return configs.plot(config, "plot.svg", **options)
            case _:
                raise AssertionError(self.entry)

    def __repr__(self):
        options = {"layout": self.layout, "part": self.part}
        given = "" if self.given is self.config else f", as {type(self.given).__name__}"
        return f"{self.entry} {options} {self.done}{given}: {_fingerprint(self.config)[:1500]}"

    def problem(self):
        """What is wrong, or None."""
        if self.entry == "shell":
            return self.problem_in_shell()
        if self.entry == "file":
            return self.problem_of_file()
        before = _fingerprint(self.config)
        kind, got = outcome(self.call, self.given)
        if _fingerprint(self.config) != before:
            return "the config was changed"
        if kind == "error":
            if (
                self.entry == "difference"
                and isinstance(got, ValueError)
                and outcome(configs.layer_ropes, self.base, layout=self.layout, part=self.part)[0]
                == "error"
            ):
                return None  # the other one is refused
            return problem_of_error(got, self.config)
        if kind == "ok" and isinstance(got, (RoPE, tuple)):
            ropes = got if isinstance(got, tuple) else (got,)
            found = problem_of_ropes(ropes)
            if found:
                return found
            again = outcome(self.call, self.given)
            if again[0] == "error" or not is_alike(got, again[1]):
                return f"another result the second time: {again[1]}"
            name = self.config.get("model_type") if self.names_family else None
            name = (
                name
                if isinstance(name, str) and is_known(name) and name not in BY_OTHER_SIZES
                else None
            )
            if any(ropes):
                found = problem_of_round_trip(got, name)
                if found:
                    return found
        return self.ignored(got) if self.entry == "layers" else None

    def problem_in_shell(self):
        """The same, from a file and as the command line prints it."""
        try:
            text = json.dumps(self.config)
        except (TypeError, ValueError, RecursionError):
            return None
        Path("config.json").write_text(text, encoding="utf-8")
        given = [
            "explain",
            "config.json",
            "--part",
            self.part,
            *(["--layout", self.layout] if self.layout else []),
        ]
        out, err = io.StringIO(), io.StringIO()
        status = 0
        try:
            with bounded(), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                rope_xp.__main__.main(given)
        except SystemExit as error:
            status = error.code
        except (Exception, Hang) as error:  # noqa: BLE001
            return f"{type(error).__name__} in the shell: {error}"
        kind, got = outcome(configs.explain, json.loads(text), layout=self.layout, part=self.part)
        if (status == 0) != (kind == "ok"):
            return f"status {status} in the shell, where the mapping gives {got!s:.200}"
        if status and (status != 2 or out.getvalue() or err.getvalue().count("\n") != 1):
            return f"status {status}, {out.getvalue()!r}, {err.getvalue()!r}"
        return (
            None if status or out.getvalue().strip() == got.strip() else "other text in the shell"
        )

    def problem_of_file(self):
        """What is wrong with the reading of a broken file, or None."""
        path, kind = make_file(self.m, self.config)
        self.done = [*self.done, kind]
        given = self.m.pick((str, Path, os.fspath, Text))(path)
        opened.clear()
        state, got = outcome(configs.layer_ropes, given, layout=self.layout, part=self.part)
        here = os.fsencode(Path.cwd())
        others = [
            name
            for name in opened
            if not (name if name.startswith(b"/") else here).startswith(here)
        ]
        if others or Path("planted").exists():
            return f"it opened {others}"
        if state == "error":
            # A file of its own has other keys than the config.
            return problem_of_error(got, dict.fromkeys(re.findall(r"[`']([^`'\[]+)", str(got))))
        return problem_of_ropes(got)

    def ignored(self, got):
        """Whether a change of one number that matters changed nothing."""
        if (
            self.given is not self.config
            or len(self.done) != 1
            or self.done[0] not in {"rescale", "replace"}
        ):
            return None
        path = changed_path(self.base, self.config)
        if "_class_name" in self.base:
            return None  # its table lists what it passes over
        if path is None or not matters(path) or (self.layout and "interleave" in path[-1]):
            return None
        kind, want = outcome(configs.layer_ropes, self.base, layout=self.layout, part=self.part)
        if kind == "error" or not is_alike(got, want):
            return None
        texts = [
            outcome(configs.explain, c, layout=self.layout, part=self.part)[1]
            for c in (self.base, self.config)
        ]
        if texts[0] != texts[1]:
            return None
        return f"nothing reads {'.'.join(map(str, path))}, and nothing says so"


MATTERS = re.compile(r"theta|rope|rotary|yarn|mscale|factor|beta|head_dim")


def matters(path):
    return isinstance(path[-1], str) and bool(MATTERS.search(path[-1]))


def changed_path(a, b, path=()):
    """Where two configs differ, if that is one place."""
    if type(a) is not type(b) or type(a) is not dict:
        return path
    keys = [
        key
        for key in {*a, *b}
        if key not in a or key not in b or _fingerprint(a[key]) != _fingerprint(b[key])
    ]
    if len(keys) != 1:
        return None
    key = keys[0]
    return changed_path(a[key], b[key], (*path, key)) if key in a and key in b else (*path, key)


def _fingerprint(value, depth=0):
    """A text that differs if a value does; objects are not asked."""
    if type(value) is dict and depth < 70:
        return "{" + ",".join(f"{k!r}:{_fingerprint(v, depth + 1)}" for k, v in value.items()) + "}"
    if type(value) in {list, tuple} and depth < 70:
        return f"{type(value)}[" + ",".join(_fingerprint(one, depth + 1) for one in value) + "]"
    if type(value) in {int, str, bytes, float, bool, type(None)}:
        return (
            repr(value)
            if type(value) is not int or value.bit_length() < 1000
            else str(value.bit_length())
        )
    return f"{type(value)} {id(value)}"


def shortened(case, text):
    """The config without the keys that the failure does not need."""
    if case.given is not case.config or case.entry == "file":
        return case
    start = time.monotonic()
    for key in [*case.config]:
        made = copy.copy(case)
        made.config = made.given = {k: v for k, v in case.config.items() if k != key}
        made.base = {k: v for k, v in case.base.items() if k != key}
        found = made.problem()
        if found and found[:40] == text[:40] and time.monotonic() - start < 20:
            case = made
    return case


def run(*, seed=0, cases=20000, seconds=math.inf, only=None):
    """The failures: each kind once, by its text; and how many cases ended how."""
    seeds, failures, seen = read_seeds(), {}, collections.Counter()
    counts, start = collections.Counter(), time.monotonic()
    for number in range(cases) if only is None else [only]:
        if time.monotonic() - start > seconds:
            break
        case = Case(seed, number, seeds)
        counts[case.entry] += 1
        text = case.problem()
        if text is None:
            continue
        kind = re.sub(r"\d+|'[^']*'|\{.*\}", "#", text)[:60]
        seen[kind] += 1
        if seen[kind] == 1:
            failures[kind] = f"--seed {seed} --only {number}: {text}\n    {shortened(case, text)!r}"
    return [f"({seen[kind]} times) {text}" for kind, text in failures.items()], counts


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cases", type=int, default=None, help="default: as the seconds allow")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--only", type=int, help="the number of one case")
    options = parser.parse_args()
    cases = sys.maxsize if options.cases is None else options.cases
    seconds = math.inf if options.cases is not None else options.seconds
    found, counts = run(seed=options.seed, cases=cases, seconds=seconds, only=options.only)
    print(f"{sum(counts.values())} configs {dict(counts)}, {len(found)} failures")
    print(
        "".join(f"\n{text}\n" for text in found).encode("utf-8", "backslashreplace").decode(),
        end="",
    )
    sys.exit(bool(found))


if __name__ == "__main__":
    import rope_xp.__main__

    sys.addaudithook(audit)
    os.chdir(tempfile.mkdtemp())
    main()
