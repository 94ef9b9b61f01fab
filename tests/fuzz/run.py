"""Thousands of calls with everything an argument can be: ``python tests/fuzz/run.py torch --seed 3``.

Each call is one of a public function of `table.TABLE`, made from the seed and its number. Half of the
calls are right: the result must be the oracle's, and that of the same call on plain NumPy arrays, with
its shape and dtype, as an array of the library. In the other calls an argument is replaced: what comes
out must be a result that plain NumPy arrays give, too, or a ValueError or TypeError that names an
argument of the call. No other error, no warning, no hang. A failure is printed as a call without what
it does not need; ``--only N`` makes call N alone. A public function that has no row fails.
"""

import argparse
import collections
import contextlib
import importlib
import inspect
import math
import os
import re
import resource
import signal
import sys
import tempfile
import time
import warnings
from fractions import Fraction
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np

sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parents[1])]

import table

import rope_xp

HOST_VIEWS = (
    "plain", "strided", "backward", "fortran", "expanded", "readonly", "swapped", "memmap",
    "subclass", "unaligned",
)  # fmt: skip
VIEWS = {
    "numpy": HOST_VIEWS,
    "torch": ("plain", "strided", "fortran", "expanded", "parameter", "subclass", "negated", "inference"),
    "dask": ("plain", "halves", "ones", "swapped"),
}  # fmt: skip
# What an argument must not be, most often.
WRONG = (
    "None", "True", "np.bool_(False)", "0", "-1", "1.5", "3", "2**60", "2**63", "2**64", "-2**80",
    "10**400", "nan", "inf", "-inf", "1e308", "5e-324", "1j", "'half'", "'x' * 10**5", "b'x'", "[]", "()",
    "[1, 'a']", "[[1.0], [1.0, 2.0]]", "{}", "{1}", "object()", "np", "range(3)",
    "iter([1, 2])", "[0.5] * 10**5", "Fraction(1, 3)", "np.float32(2)", "np.int64(3)", "np.uint8(200)",
    "np.datetime64('2020')", "np.timedelta64(5, 's')", "np.array(['a', 'b'])", "np.array([None, 1])",
    "np.array([1j, 2j])", "np.array(7)", "np.array([1.0, 2.0], dtype='>f4')", "np.longdouble(3)",
    "np.array([1, 2], dtype='M8[s]')", "np.zeros((0, 4))", "[True, False]", "np.array([1.5], dtype='g')",
    "other([1.0, 2.0], 'float32')", "other([[1, 2]], 'int32')", "lib([1, 2, 3], 'int32')", "lib(4, 'int32')",
    "lib([True, False], 'bool')", "lib([[0.5]], 'float32')", "host([1, 2], 'int64', 'matrix')",
    "host([[1.0, 2.0]], 'float32', 'masked')", "dtype('float32')", "np.int64", "np.complex64", "'float32'",
    "[1, None]", "[1, 2**70]", "[10**400, 0.5]", "RoPE(4, layout='half')", "lambda *a, **o: None",
)  # fmt: skip


class Refused(ValueError):
    """Of a masked array, whose plain twin would be another array."""


class Subclass(np.ndarray):
    """A user's own."""


class Hang(BaseException):
    """A call that did not end."""


class Array:
    """The expression of an array."""

    def __init__(self, maker, values, view):
        self.maker, self.values, self.view = maker, values, view

    def __repr__(self):
        a = self.values
        text = repr(a.tolist()) if a.size else f"np.zeros({a.shape})"
        if self.view == "list":
            return text
        view = "" if self.view == "plain" else f", {self.view!r}"
        return f"{self.maker}({text}, {a.dtype.name!r}{view})"


# -- one array library -----------------------------------------------------------------------------


def as_view(a, how):
    """A NumPy array with these values that is stored otherwise."""
    a = np.ascontiguousarray(a).reshape(a.shape)
    if how == "strided" and a.ndim:
        return np.repeat(a, 2, -1)[..., ::2]
    if how == "backward":
        return np.flip(np.flip(a).copy())
    if how == "fortran" and a.ndim:
        return np.asfortranarray(a)
    if how == "expanded" and a.ndim and a.size:
        return np.broadcast_to(a[:1], a.shape)
    if how == "readonly":
        a.flags.writeable = False
    if how == "swapped" and a.dtype.name != "bfloat16":
        return a.astype(a.dtype.newbyteorder(">"))
    if how == "memmap" and a.size:
        with tempfile.TemporaryFile() as file:
            made = np.memmap(file, a.dtype, "w+", shape=a.shape)
        made[...] = a
        return made
    if how == "unaligned":
        made = np.zeros(a.nbytes + 1, "u1")[1:].view(a.dtype).reshape(a.shape)
        made[...] = a
        return made
    if how in {"matrix", "masked"}:
        with warnings.catch_warnings(action="ignore"):
            return np.matrix(a) if how == "matrix" else np.ma.masked_array(a, mask=True)
    return a.view(Subclass) if how == "subclass" else a


class Backend:
    """How to make arrays of a library and to read them."""

    def __init__(self, name):
        self.name = name = name.partition("-")[0]
        modules = {"numpy": "numpy", "strict": "array_api_strict", "jax": "jax.numpy"}
        self.xp = importlib.import_module(modules.get(name, name.replace("dask", "dask.array")))
        self.Subclass = type("Subclass", (self.xp.Tensor,), {}) if name == "torch" else Subclass
        if name == "dask":
            importlib.import_module("dask").config.set(scheduler="synchronous")
        self.strict = importlib.import_module("array_api_strict")
        self.narrow = name == "jax" and not importlib.import_module("jax").config.jax_enable_x64
        floats, ints = table.DTYPES["floats"], table.DTYPES["ints"]
        self.has = {*floats, *ints} - ({"float16", "bfloat16"} if name == "strict" else set())
        self.has -= {"int64", "uint64", "float64"} if self.narrow else set()
        self.has |= {"out"} if name in {"numpy", "torch"} else set()
        self.looks = name in {"numpy", "torch", "jax"}  # its values are at hand
        self.views = VIEWS.get(name, ("plain",))

    def lib(self, values, dtype, view="plain"):
        a = np.array(values, dtype=table.named(dtype))
        if self.name == "numpy":
            return as_view(a, view)
        if self.name == "dask":
            size = {"halves": 2, "ones": 1}.get(view, 100)
            a = as_view(a, "swapped" if view == "swapped" else "plain")
            return self.xp.from_array(a, chunks=tuple(max(1, min(n, size)) for n in a.shape))
        if self.name == "torch":
            return self.tensor(a, view)
        return self.xp.asarray(a)

    def tensor(self, a, how):
        torch = self.xp
        a = np.broadcast_to(a[:1], a.shape).copy() if how == "expanded" and a.ndim and a.size else a
        wide = a.astype("float32") if a.dtype.name == "bfloat16" else a
        t = torch.from_numpy(wide).to(getattr(torch, a.dtype.name))
        if how == "strided" and t.ndim:
            return t.repeat_interleave(2, -1)[..., ::2] if t.element_size() < 8 or t.numel() else t
        if how == "fortran" and t.ndim > 1:
            return t.mT.contiguous().mT
        if how == "expanded" and t.ndim and t.numel():
            return t[:1].expand(t.shape)
        if how == "parameter" and t.is_floating_point():
            return torch.nn.Parameter(t)
        if how == "negated" and t.is_floating_point():
            return torch._neg_view(-t)
        if how == "inference":
            with torch.inference_mode():
                return t.clone()
        return t.as_subclass(self.Subclass) if how == "subclass" else t

    def other(self, values, dtype):
        """An array of another library."""
        if self.name == "strict":
            return importlib.import_module("dask.array").from_array(np.asarray(values, dtype))
        return self.strict.asarray(np.asarray(values, dtype))

    def owns(self, array):
        if self.name == "jax":
            return isinstance(array, importlib.import_module("jax").Array)
        kinds = {"numpy": (np.ndarray, np.generic)}
        return isinstance(array, kinds.get(self.name, type(self.xp.zeros(1))))

    def namespace(self, *, plain=False):
        """What expressions are made of; if ``plain`` the same values as plain NumPy arrays."""

        def plain_array(values, dtype, view="plain"):
            if view == "masked":
                raise Refused
            a = np.array(values, dtype=table.named(dtype))
            return np.array(as_view(a, "expanded" if view == "expanded" else "plain"))

        def host(values, dtype, view="plain"):
            return as_view(np.array(values, dtype=table.named(dtype)), view)

        def dtype(name):
            numpys = plain or self.name in {"numpy", "dask"}
            return table.named(name) if numpys else getattr(self.xp, name)

        arrays = dict.fromkeys(("lib", "other", "host"), plain_array)
        arrays = arrays if plain else {"lib": self.lib, "other": self.other, "host": host}
        names = {name: getattr(rope_xp, name) for name in rope_xp.__all__}
        names |= {
            "layouts": rope_xp.layouts,
            "np": np,
            "nan": math.nan,
            "inf": math.inf,
            "Fraction": Fraction,
            "dtype": dtype,
        }
        if self.name == "jax":
            names["jitted"] = (
                (lambda f: f) if plain else importlib.import_module("under_jit").jitted
            )
        return names | arrays | {"xp": np if plain else self.xp}


def to_numpy(array):
    """A plain NumPy array, integers and booleans as they are, all else as float64."""
    if hasattr(array, "compute"):
        array = array.compute()
    if hasattr(array, "detach"):
        array = array.detach().resolve_neg()
        array = (array.double() if array.is_floating_point() else array).numpy()
    array = np.asarray(array)
    return array if array.dtype.kind in "iubO" else array.astype(float)


def is_array(value):
    return hasattr(value, "dtype") and hasattr(value, "shape") and not isinstance(value, type)


def dtype_name(array):
    return str(getattr(array.dtype, "name", array.dtype)).rpartition(".")[2]


def difference(got, want, units=8, shapes_only=False, rounded=False):
    """In what a result differs from the one wanted, or None."""
    if isinstance(got, (tuple, list)) and isinstance(want, (tuple, list)):
        if len(got) != len(want):
            return f"{len(got)} results, not {len(want)}"
        found = (
            difference(a, b, units, shapes_only, rounded) for a, b in zip(got, want, strict=True)
        )
        return next((d for d in found if d), None)
    if not is_array(got) and not is_array(want):
        if isinstance(got, float) and isinstance(want, (float, int)):
            same = math.isclose(got, want, rel_tol=1e-12, abs_tol=1e-300) or (
                math.isnan(got) and math.isnan(want)
            )
            return None if same else f"{got!r}, not {want!r}"
        same = shapes_only or got is want or type(got) is not type(want) or got == want
        same = same or inspect.isfunction(got)  # of the arguments: it has no value of its own
        return None if same else f"{str(got)[:200]!r}, not {str(want)[:200]!r}"
    name = dtype_name(got) if is_array(got) else "float64"
    a, b = (to_numpy(x) for x in (got, want))
    if a.shape != b.shape:
        return f"shape {a.shape}, not {b.shape}"
    if shapes_only:
        return None
    if a.dtype.kind in "iub" and all(isinstance(v, (int, np.integer, np.bool_)) for v in b.flat):
        same = [int(v) for v in a.flat] == [int(v) for v in b.flat]
    else:
        b = b.astype(float)
        finite = np.abs(b[np.isfinite(b)])
        name = "float32" if rounded and name == "float64" else name
        eps = 2.0 ** -{"float64": 52, "float16": 10, "bfloat16": 7}.get(name, 23)
        atol = units * eps * max(1.0, finite.max(initial=0))
        with np.errstate(all="ignore"):
            largest = {"float16": 65504.0, "float32": 3.4e38, "bfloat16": 3.38e38}.get(
                name, math.inf
            )
            a, b = (
                np.where(np.abs(x) > largest * 0.999, np.copysign(math.inf, x), x) for x in (a, b)
            )
            same = np.allclose(a, b, rtol=units * eps, atol=atol, equal_nan=True)
    return None if same else f"{str(a.tolist())[:300]}, not {str(b.tolist())[:300]}"


# -- calls -----------------------------------------------------------------------------------------


def code_of(name, arguments, jit=False):
    """The call as an expression."""
    place, _, method = name.rpartition(".")
    fields = {k[5:]: v for k, v in arguments.items() if k.startswith("self.")}
    given = [repr(v) for k, v in arguments.items() if k.startswith("*")]
    given += [f"{k}={v!r}" for k, v in arguments.items() if not k.startswith(("self.", "*"))]
    if needs_object(name):
        place = f"{place}({', '.join(f'{k}={v!r}' for k, v in fields.items())})"
    function = place if method == "__call__" else f"{place}.{method}" if place else method
    return f"{f'jitted({function})' if jit else function}({', '.join(given)})"


def resolve(name):
    found = rope_xp
    for part in name.split("."):
        found = getattr(found, part)
    return found


def needs_object(name):
    """Whether it is a method of an object, no function nor class method."""
    owner = resolve(name.rpartition(".")[0]) if "." in name else None
    return isinstance(owner, type) and inspect.isfunction(resolve(name))


def parameters(name):
    """The names that a message may have."""
    if name.startswith("configs.") or name.endswith("from_config"):
        return None  # the keys of the config
    known = {*inspect.signature(resolve(name)).parameters} - {"self"}
    if "frequencies" in known:
        return None  # a function, with errors of its own
    if needs_object(name):
        known |= {*inspect.signature(resolve(name.rpartition(".")[0])).parameters}
    for given in known & {"scaling", "axes"}:  # also the fields of what is given
        known |= {
            f for v in vars(resolve(given)).values() for f in getattr(v, "__dataclass_fields__", ())
        }
    return known


def wait(_number, _frame):
    raise Hang


def printed(result):
    """What `rope_xp.testing` reports, as it prints."""
    if isinstance(result, tuple):
        return tuple(map(printed, result)) if type(result) is tuple else result
    return str(result) if type(result).__module__.startswith("rope_xp.testing") else result


def evaluate(code, names, *, wild=False, warn=True):
    """("ok", result) or ("error", exception)."""
    signal.signal(signal.SIGALRM, wait)
    signal.alarm(60)
    with warnings.catch_warnings(), contextlib.ExitStack() as stack:
        warnings.simplefilter("error" if warn else "ignore")
        if wild:
            stack.enter_context(np.errstate(all="ignore"))
        try:
            result = eval(code, dict(names))
            if hasattr(result, "turn"):  # a cache: what it reads as
                result = (result.k, result.v, result.length)
            result = printed(result)
            for each in result if isinstance(result, tuple) else (result,):
                if is_array(each) and hasattr(each, "compute"):
                    each.compute()
        except (Exception, Hang) as error:  # noqa: BLE001 - whatever escapes
            return "error", error
        finally:
            signal.alarm(0)
    return "ok", result


def problem(backend, name, arguments, *, broken, wild, jit=False):
    """What is wrong with a call, or None; "both" if plain arrays are refused, too."""
    code = code_of(name, arguments, jit)
    kind, got = evaluate(code, backend.namespace(), wild=wild)
    if name == "configs.plot" and isinstance(got, OSError):
        return None  # of the file
    if name.startswith("testing.") and isinstance(got, AssertionError):
        return None  # it does not rotate
    if "Inference tensors cannot be saved" in str(got):
        return None  # whatever torch computes with one of them beside a parameter
    if kind == "error" and not isinstance(got, (ValueError, TypeError)):
        return f"{type(got).__name__} escapes: {str(got)[:300]}"
    if kind == "error":
        known, found = parameters(name), re.findall(r"`(\w+)|unknown (\w+)", str(got))
        found = {a or b for a, b in found}
        if not found or (known is not None and not known & found) or len(str(got)) >= 500:
            return f"{type(got).__name__} without a sentence of ours: {str(got)[:300]}"
        if broken:
            return None
    plain_kind, want = evaluate(code, backend.namespace(plain=True), wild=wild, warn=False)
    if kind == "error":
        return "both" if plain_kind == "error" else f"a right call is refused: {got}"
    if plain_kind == "error":
        views = {v.view for v in arguments.values() if isinstance(v, Array)}
        trusted = (
            "other(" in code
            or jit
            or not backend.looks
            or views & {"subclass", "parameter", "negated"}
        )
        trusted = trusted and isinstance(want, ValueError)
        unused = isinstance(want, Refused) and name.startswith(("scaling.", "axes."))
        return (
            None
            if trusted or unused
            else f"accepted, but refused of plain arrays: {str(want)[:300]}"
        )
    found = difference(got, want, table.TABLE[name].tolerance, wild, is_rounded(arguments))
    if found:
        return f"not what plain arrays give: {found}"
    return None if broken else broken_law(backend, name, arguments, got, want, wild)


def is_rounded(arguments):
    return "float32" in (arguments.get("precision"), arguments.get("self.precision"))


def broken_law(backend, name, arguments, got, want, wild):
    """What the result of a right call should have been, or None."""
    has_array = any(isinstance(v, Array) and v.maker == "lib" for v in arguments.values())
    results, wanted = (r if isinstance(r, tuple) else (r,) for r in (got, want))
    for each, plain in zip(results, wanted, strict=False):
        if not (is_array(each) and is_array(plain)):
            continue
        if ("xp" in arguments or has_array) and not backend.owns(each):
            return f"an array of another library: {type(each)}"
        names = [dtype_name(each), dtype_name(plain)]
        if backend.narrow and backend.owns(each):
            names[1] = names[1].replace("64", "32")
        of_library = name in {"positions.grid_positions", "positions.token_positions"}
        if names[0] != names[1] and not of_library:
            return f"dtype {names[0]}, not {names[1]}"
    oracle = table.TABLE[name].oracle
    if oracle is None or wild:
        return None
    space = backend.namespace(plain=True)
    keyed = {
        k: eval(repr(v), dict(space)) for k, v in arguments.items() if not k.startswith("self.")
    }
    keyed |= {k: np.asarray(v) for k, v in keyed.items() if isinstance(arguments[k], Array)}
    listed = [keyed.pop(k) for k in [*keyed] if k.startswith("*")]
    if needs_object(name):
        place = name.rpartition(".")[0]
        fields = {k[5:]: v for k, v in arguments.items() if k.startswith("self.")}
        code = f"{place}({', '.join(f'{k}={v!r}' for k, v in fields.items())})"
        keyed["self"] = eval(code, dict(space))
    with np.errstate(all="ignore"):
        expected = oracle(*listed, **keyed)
    found = expected is not None and difference(
        got, expected, table.TABLE[name].tolerance, rounded=is_rounded(arguments)
    )
    return f"not what the oracle gives: {found}" if found else None


def make(backend, name, rng):
    """The arguments of a call, and whether they are broken or have numbers beyond all models."""
    draw = table.Draw(rng, backend.has)
    arguments = {k: dress(draw, backend, k, v) for k, v in table.TABLE[name].make(draw).items()}
    if "out" in arguments:
        arguments["x"].view = "plain"  # of the same dtype
    state = SimpleNamespace(broken=False, wild=draw.wild, jit=False)
    if arguments and draw.chance(0.5):
        state.broken, at = True, draw.pick(*arguments)
        old = arguments[at]
        if isinstance(old, Array) and draw.chance(0.4):
            arguments[at] = misshape(draw, backend, old)
        else:
            arguments[at] = table.E(draw.pick(*WRONG))
    is_eager = "xp" in arguments or name.startswith("testing.")
    state.jit = backend.name == "jax" and not (state.broken or is_eager) and draw.chance(0.1)
    return arguments, state


def dress(draw, backend, key, value):
    """An array as the library or NumPy may store it."""
    may_be_host = isinstance(value, table.Host)
    value = value.array if may_be_host else value
    if not isinstance(value, np.ndarray):
        return value
    if may_be_host and draw.chance(0.3):
        listed = value.dtype.name in {"int64", "float64"} and value.size
        view = draw.pick(*HOST_VIEWS, *(["list"] if listed else []))
        return Array("host", value, view)
    return Array("lib", value, "plain" if key == "out" else draw.pick(*backend.views))


def misshape(draw, backend, old):
    """An array of another shape or dtype."""
    a, kinds = old.values, [d for d in backend.has if d != "out"]
    made = draw.pick(
        lambda: a[None], lambda: a[..., None], lambda: a.reshape(-1), lambda: a[:0] if a.ndim else a,
        lambda: a[0] if a.ndim and len(a) else a, lambda: a[..., :-1] if a.ndim else a,
        lambda: np.concatenate((a, a)) if a.ndim else a, lambda: a.T, lambda: a.astype(bool),
        lambda: a.astype(table.named(draw.pick(*sorted(kinds)))),
    )  # fmt: skip
    with np.errstate(all="ignore"):
        return Array(old.maker, made(), "plain")


def shortened(backend, name, arguments, state, text):
    """The arguments that the failure needs, each as plain as possible."""
    for key, value in list(arguments.items()):
        without = {k: v for k, v in arguments.items() if k != key}
        plain = (
            {**arguments, key: Array(value.maker, value.values, "plain")}
            if isinstance(value, Array)
            else {}
        )
        for tried in (without, plain):
            found = tried and problem(backend, name, tried, **vars(state))
            if found and found[:70] == text[:70]:
                arguments = tried
                break
    return arguments


# -- all of them -----------------------------------------------------------------------------------


def public_functions():
    """The public functions, and methods of public classes, by their names in `rope_xp`."""
    for name in rope_xp.__all__:
        value = getattr(rope_xp, name)
        members = (
            [f"{name}.{n}" for n in value.__all__] if isinstance(value, ModuleType) else [name]
        )
        for each in members:
            found = resolve(each)
            if not isinstance(found, type):
                yield each
            elif not getattr(found, "_is_protocol", False):
                own = [
                    vars(base) for base in found.__mro__ if base.__module__.startswith("rope_xp")
                ]
                methods = {
                    n
                    for base in own
                    for n, f in base.items()
                    if callable(f) or isinstance(f, classmethod)
                }
                yield from (
                    f"{each}.{n}" for n in methods if n == "__call__" or not n.startswith("_")
                )


def run(name, *, seed=0, calls=4000, seconds=math.inf, only=None):
    """The failures of a library: each kind once, by its text, with how often it was seen."""
    backend, rows = Backend(name), sorted(table.TABLE)
    failures = {f"{f}: no row in tests/fuzz/table.py": 1 for f in {*public_functions()} - set(rows)}
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + 2**32, resource.RLIM_INFINITY))
    seen, counts, start = set(), collections.Counter(), time.monotonic()
    numbers = range(calls) if only is None else [only]
    for number in numbers:
        if time.monotonic() - start > seconds:
            break
        row = rows[number % len(rows)]
        if row == "configs.plot" and number // len(rows) % 10 and only is None:
            continue  # drawing takes as long as a hundred calls
        arguments, state = make(backend, row, np.random.default_rng([seed, number]))
        text = problem(backend, row, arguments, **vars(state))
        counts["broken" if state.broken else "refused" if text == "both" else "right"] += 1
        if text in (None, "both") or (row, text[:70]) in seen:
            continue
        seen.add((row, text[:70]))
        arguments = shortened(backend, row, arguments, state, text)
        failures[
            f"--seed {seed} --only {number}: {text}\n    {code_of(row, arguments, state.jit)[:1500]}"
        ] = 1
    return failures, counts


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("backend", nargs="+", help="numpy, torch, strict, jax, jax-x64, dask")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--calls", type=int, default=None, help="default: as the seconds allow")
    parser.add_argument("--only", type=int, help="the number of one call")
    options = parser.parse_args()
    failed = False
    for name in options.backend:
        if name.startswith("jax"):
            importlib.import_module("jax").config.update("jax_enable_x64", name == "jax-x64")
        calls = sys.maxsize if options.calls is None else options.calls
        found, counts = run(
            name, seed=options.seed, calls=calls, seconds=options.seconds, only=options.only
        )
        print(f"{name}: {sum(counts.values())} calls {dict(counts)}, {len(found)} failures")
        print("".join(f"\n{text}\n" for text in found), end="", flush=True)
        failed |= bool(found)
    sys.exit(failed)


if __name__ == "__main__":
    os.chdir(tempfile.mkdtemp())
    main()
