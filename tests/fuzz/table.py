"""Which calls are made: for each public function a maker of arguments and an oracle.

A maker takes a `Draw` and returns the arguments by name: Python values, arrays of the library
(`numpy.ndarray`), arrays that may be the host's (`Host`), and expressions (`E`). Names that begin with
"self." are those of the object whose method is called; "*0", "*1", … are positional.
"""

from typing import NamedTuple

import numpy as np
import oracles

DTYPES = {
    "floats": ("float16", "bfloat16", "float32", "float64"),
    "ints": ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
}


class E(str):
    """An expression."""

    __slots__ = ()
    __repr__ = str.__str__


class Host(NamedTuple):
    """An array that may as well be one of NumPy or a list."""

    array: np.ndarray


class Row(NamedTuple):
    make: object
    oracle: object = None
    tolerance: float = 8  # units of the last place of the largest number


class Draw:
    """Random values of each kind, from one seed."""

    def __init__(self, rng, has):
        self.rng, self.has, self.wild = rng, has, False

    def pick(self, *values):
        return values[self.rng.integers(len(values))]

    def chance(self, p):
        return self.rng.random() < p

    def size(self):
        return 0 if self.chance(0.05) else self.pick(1, 2, 2, 3, 5)

    def lead(self, most=2):
        return tuple(self.size() for _ in range(self.rng.integers(most + 1)))

    def cast(self, values, kind):
        name = self.pick(*(d for d in DTYPES[kind] if d in self.has))
        return np.asarray(np.asarray(values).astype(named(name)))

    def data(self, *shape, wild=0.05):
        """Queries, keys and the like; sometimes with numbers that no model has."""
        values = self.rng.standard_normal(shape)
        if self.chance(wild) and values.size:
            self.wild = True
            values.flat[0] = self.pick(np.nan, np.inf, -np.inf, 3e38, -1e300, 1e-310)
        with np.errstate(over="ignore"):
            return self.cast(values, "floats")

    def ints(self, *shape):
        """Integers over the whole range of their dtype, most often small."""
        dtype = np.dtype(self.pick(*(d for d in DTYPES["ints"] if d in self.has)))
        limits, near = np.iinfo(dtype), self.pick("small", "small", "low", "high", "any")
        if near == "any" and shape:
            return self.rng.integers(limits.min, limits.max, shape, dtype, endpoint=True)
        near = "small" if near == "any" else near
        steps = self.rng.integers(0, 100, shape)
        low, high = (np.array(n, dtype) for n in (limits.min, limits.max))
        steps = np.asarray(steps, dtype)
        return np.asarray({"small": steps, "low": low + steps, "high": high - steps}[near])

    def reals(self, *shape):
        """Real positions up to 2^31, NaN and infinity."""
        values = self.rng.standard_normal(shape) * self.pick(1, 100, 1e4, 1e8)
        if self.chance(0.1) and values.size:
            values.flat[0] = self.pick(np.nan, np.inf, -np.inf)
        with np.errstate(over="ignore"):
            return self.cast(values, "floats")

    def positions(self, *shape):
        return self.ints(*shape) if self.chance(0.7) else self.reals(*shape)

    def small(self, *shape):
        """Small integers of any integer dtype."""
        return self.cast(self.rng.integers(0, 50, shape), "ints")

    def frequencies(self, n):
        values = self.rng.standard_normal(n) * self.pick(1, 1, 1e-3, 1e3, 1e-40)
        return [0.0 if self.chance(0.1) else float(w) for w in values]

    def some(self, **options):
        """Some of the optional arguments."""
        return {name: make() for name, make in options.items() if self.chance(0.4)}

    def dtype(self, kind):
        return E(f"dtype({self.pick(*(d for d in DTYPES[kind] if d in self.has))!r})")


def named(name):
    if name == "bfloat16":
        import ml_dtypes

        return np.dtype(ml_dtypes.bfloat16)
    return np.dtype(name)


LAYOUTS = "half", "interleaved"
SCHEDULES = (
    "Linear(4.0)", "NTK(2.0)", "DynamicNTK(4.0, 16)", "YaRN(4.0, 2048)", "Proportional(0.5)",
    "Llama3(4.0, 1.0, 4.0, 2048)", "LongRoPE([2]*{n}, [4]*{n}, 16, factor=4.0)",
    "FrequencyFactors([3.0]*{n})", "Negated()", "Default()", "NTKByParts(4.0, 2048)",
    "Custom([0.5]*{n})", "RIFLEx(2, 66)",
)  # fmt: skip
SCHEMES = (
    "Axial(2)", "Axial(2, split=True)", "Axial(2, arrangement='alternating')", "Sections(({n}-1, 1))",
    "InterleavedSections(({n}-{n}//2, {n}//2))", "AxisPerPair((0, 1) * ({n}//2))",
    "golden_directions(2, {n}, slowest=0.1, fastest=1.0)", "Directions([[1.0]*{n}, [0.5]*{n}])",
)  # fmt: skip


def encoding(d, prefix="", axes=True):
    """The arguments of a RoPE, its head_dim, and the number of its axes or None."""
    width = d.pick(4, 8)
    start, rest = d.pick(0, 0, 1, 2), d.pick(0, 0, 3)
    made = {"head_dim": start + width + rest, "layout": d.pick(*LAYOUTS)}
    made |= {"rotary_start": start} if start else {}
    made |= {"rotary_dim": width} if rest else {}
    made |= d.some(base=lambda: d.pick(10000.0, 100, 5e5, 2.0))
    if d.chance(0.3):
        made["scaling"] = E("scaling." + d.pick(*SCHEDULES).format(n=width // 2))
    n_axes = 2 if axes and d.chance(0.3) else None
    if n_axes and d.chance(0.2):
        made["scaling"] = E("(scaling.Linear(4.0), scaling.RIFLEx(1, 66))")
    if n_axes:
        made["axes"] = E("axes." + d.pick(*SCHEMES).format(n=width // 2))
    if d.chance(0.1):
        made["precision"] = "float32"
    return {prefix + name: value for name, value in made.items()}, made["head_dim"], n_axes


def rope_call(d):
    made, width, n_axes = encoding(d, "self.")
    lead, seq = d.lead(), d.size()
    made |= {"q": d.data(*lead, seq, width)}
    seq_axis = -2
    if len(lead) == 2 and d.chance(0.3):
        seq_axis, seq = -3, lead[1]
        made["seq_axis"] = seq_axis
    if d.chance(0.4):
        made["k"] = d.data(*made["q"].shape)
    shape = (
        (lead[0], seq) if lead and len(made["q"].shape) + seq_axis > 0 and d.chance(0.4) else (seq,)
    )
    if n_axes or d.chance(0.6):
        made["positions"] = Host(d.positions(*([n_axes] if n_axes else []), *shape))
    elif d.chance(0.5):
        made["offset"] = Host(d.small(*shape[:-1]))
    return made | d.some(seq_len=lambda: d.pick(8, 100))


def rope_shift(d):
    made, width, n_axes = encoding(d, "self.")
    k = d.data(*d.lead(), d.size(), width)
    shape = d.pick((), (1,), (k.shape[-2],))
    delta = d.positions(*([n_axes] if n_axes and shape else []), *shape)
    delta = delta if delta.dtype.kind in "iu" else d.small(*delta.shape)
    return made | {"k": k, "delta": Host(delta) if shape else d.pick(3, -7, Host(delta))}


def rope_tables(d):
    made, _, n_axes = encoding(d, "self.")
    positions = d.positions(*([n_axes] if n_axes else []), *d.lead())
    return made | {"positions": positions} | d.some(dtype=lambda: d.dtype("floats"))


def rope_rotate(d):
    made, width, _ = encoding(d, "self.")
    n_pairs = made.get("self.rotary_dim", width - made.get("self.rotary_start", 0)) // 2
    return made | tables_for(d, width, n_pairs)


def tables_for(d, width, n_pairs):
    x = d.data(*d.lead(), d.size(), width)
    shape = x.shape[-2:-1]
    if x.ndim > 2 and d.chance(0.4):
        shape = (d.pick(1, x.shape[0]), *shape)
    angles = d.rng.standard_normal((*shape, n_pairs))
    cos, sin = (Host(d.cast(f(angles), "floats")) for f in (np.cos, np.sin))
    return {"x": x, "cos": cos, "sin": sin} | d.some(inverse=lambda: d.pick(True, False))


def rotate(d):
    start, width = d.pick(0, 0, 1), d.pick(2, 4, 6)
    made = tables_for(d, start + width + d.pick(0, 3), width // 2)
    made |= {"layout": d.pick(*LAYOUTS), "rotary_start": start}
    if d.chance(0.2):
        made["blocks"] = (2,) * (width // 2)
    if d.chance(0.2) and "out" in d.has:
        made["out"] = np.zeros_like(made["x"])
    return made


def cos_sin(d):
    n_axes, n = d.pick(None, None, 2), d.pick(1, 2, 3)
    positions = d.positions(*([n_axes] if n_axes else []), *d.lead())
    inv_freq = [d.frequencies(n) for _ in range(n_axes)] if n_axes else d.frequencies(n)
    options = d.some(
        dtype=lambda: d.dtype("floats"),
        precision=lambda: d.pick("exact", "exact", "float32"),
        attention_factor=lambda: d.pick(1, 2.0, 0.5),
    )
    return {"positions": positions, "inv_freq": inv_freq, **options}


def sinusoidal(d):
    axes = d.some(axes=lambda: E("axes.Axial(2)"))
    positions = d.positions(*([2] if axes else []), *d.lead())
    options = d.some(
        base=lambda: d.pick(100.0, 10000),
        order=lambda: d.pick("interleaved", "sin_cos", "cos_sin"),
        shift=lambda: d.pick(0.5, 0.0),
        dtype=lambda: d.dtype("floats"),
    )
    return {"positions": positions, "dim": d.pick(4, 8), **axes, **options}


def convert(d):
    start, width = d.pick(0, 0, 1), d.pick(2, 4, 6)
    head_dim = start + width + d.pick(0, 3)
    x, axis = d.data(*d.lead(), d.size() * head_dim), -1
    if x.ndim > 1 and d.chance(0.4):
        x, axis = np.moveaxis(x, -1, 0), 0
    made = {"x": x, "axis": axis, "source": d.pick(*LAYOUTS), "target": d.pick(*LAYOUTS)}
    return made | {"head_dim": head_dim, "rotary_dim": width, "rotary_start": start}


def guess(d):
    """Mostly refused, being chance; sometimes with partners of q that are those of k, turned."""
    head_dim, groups, heads = d.pick(8, 16), d.pick(1, 2), d.pick(1, 2)
    q, k = (d.data(n * head_dim, 24, wild=0.02) for n in (heads * groups, heads))
    if d.chance(0.5):
        q = np.tile(np.roll(k.reshape(heads, head_dim, 24), head_dim // 2, 1), (1, groups, 1))
        q = q.reshape(-1, 24)
    made = {"q_weight": q, "k_weight": k, "head_dim": head_dim}
    return made | d.some(significance=lambda: d.pick(0.5, 0.01))


def xpos(d):
    near = d.pick(0, 100, 2**40 if "int64" in d.has else 0)
    steps = d.rng.integers(-300, 300, d.lead())
    positions = d.cast(abs(near + steps) % 120, d.pick("ints", "floats"))
    positions = np.asarray(near + steps, "int64") if near > 2**30 else positions
    options = d.some(dtype=lambda: d.dtype("floats"), scale_base=lambda: d.pick(512, 600.5))
    return {"positions": positions, "n_pairs": d.pick(1, 3), "center": near, **options}


def made_on(d, kind="ints"):
    where = d.some(xp=lambda: E("xp"))
    return where | d.some(dtype=lambda: d.dtype(kind)) if where else {}


def token_positions(d):
    offset = d.pick(0, 7, -3, 2**20, d.small(), d.small(d.size()))
    return {"n": d.pick(0, 1, 5, 60), "offset": offset, **made_on(d)}


def packed(d):
    sums = np.cumsum([0, *d.rng.integers(0, 5, d.size())])
    padding = [d.pick(-1, 0, sums[-1])] * d.pick(0, 0, 2)
    sums = d.cast([*sums, *padding], "ints")
    if sums.dtype.kind == "u" and -1 in padding:
        sums = sums.astype("int32")
    return {"cu_seqlens": sums, "total": d.pick(0, 5, 20)}


def mask(d, *shape):
    values = d.rng.integers(0, 2, shape)
    return values.astype(bool) if d.chance(0.5) else d.cast(values, "ints")


def mask_grid(d):
    n_axes = d.pick(1, 2, 3)
    made = {
        "mask": mask(d, *d.lead(1), *(d.pick(1, 2, 3) for _ in range(n_axes))),
        "n_axes": n_axes,
    }
    if d.chance(0.5):
        made |= {"scale": d.pick(1.0, 6.25, 3), **d.some(dtype=lambda: d.dtype("floats"))}
    return made


def zigzag(d):
    world_size = d.pick(1, 2, 5)
    n = 2 * world_size * d.pick(1, 3)
    return {"seq_len": n, "rank": d.pick(0, world_size - 1), "world_size": world_size, **made_on(d)}


def shards(d):
    world_size, order = d.pick(1, 2, 5), d.pick("zigzag", "contiguous")
    sums = np.cumsum([0, *d.rng.integers(0, 3, d.pick(1, 2, 3)), 1]) * 2 * world_size
    made = {"seq_len": int(sums[-1]), "rank": d.pick(0, world_size - 1), "world_size": world_size}
    if d.chance(0.7):
        return made | {"order": order, "cu_seqlens": d.cast(sums, "ints")}
    return made | {"order": order, **made_on(d)}


def drafts(d):
    lead = d.pick((), (), (2,))
    rows = [[d.rng.integers(-1, i) if i else -1 for i in range(6)] for _ in range(2)]
    parents = d.cast(np.reshape(rows[: len(lead) + 1], (*lead, 6)), "ints")
    # Of an unsigned dtype, the number of −1 is that of no token.
    return {"parents": parents.astype("int32") if parents.dtype.kind == "u" else parents}


def window(d):
    return d.some(window=lambda: d.pick(1, 3, 1000), sinks=lambda: d.pick(0, 2))


def causal(d):
    made = a_pair(("ints", "reals"))(d)
    if d.chance(0.4):
        for side in "qk":
            made[f"{side}_documents"] = d.small(*made[f"{side}_positions"].shape)
    return made | window(d)


def pairs(d):
    made = a_pair(("ints", "reals"))(d)
    both = {"q_tokens": made["q_positions"], "k_tokens": made["k_positions"]}
    return both | window(d) | d.some(causal=lambda: d.pick(True, False))


def grid(d):
    axes = {f"*{i}": d.pick(2, 4, [0.5, 2.0], [-2, 0], range(4)) for i in range(d.pick(1, 2, 3))}
    if len(axes) == 1:
        axes = {"*0": d.pick(1, 3)}
    options = d.some(
        indexing=lambda: d.pick("ij", "xy"),
        offset=lambda: d.pick(1, -2, 0.5),
        xp=lambda: E("xp"),
        merge=lambda: d.pick(1, 1 if len(axes) == 1 else 2),
    )
    return {**axes, **options}


def a_line(**options):
    def make(d):
        return {"n": d.pick(1, 2, 7)} | d.some(
            **{k: lambda v=v: d.pick(*v) for k, v in options.items()}
        )

    return make


def text_image(d):
    kinds = 3, 1, (1, 4, 4), (2, 2, 4), ("audio", 2), (2, 4, 2, 5)
    parts = [d.pick(*kinds) for _ in range(d.pick(1, 2, 4))]
    options = d.some(
        offset=lambda: d.pick(0, 5),
        advance=lambda: d.pick("side", "max"),
        chunk=lambda: d.pick(1, 2, 50),
    )
    return {"parts": parts, "merge": d.pick(1, 2), **options, **made_on(d)}


def text_parts(d):
    runs = [d.pick(0, 1) for _ in range(d.pick(1, 3))]
    images = [(1, 2, 2)] * sum(runs)
    return {"token_types": [run for run in runs for _ in range(4)], "images": images}


def a_pair(kinds):
    def make(d):
        batch = d.pick((), (), (2,))
        shapes = (*batch, d.size()), (*batch, d.size())
        at = [getattr(d, d.pick(*kinds))(*shape) for shape in shapes]
        return {"q_positions": at[0], "k_positions": at[1]}

    return make


def alibi(d):
    options = d.some(form=lambda: d.pick("key", "distance"), dtype=lambda: d.dtype("floats"))
    n_heads = d.pick(1, 3, 8)
    options |= {"slopes": [0.5] * n_heads} if d.chance(0.3) else slopes(d)
    return a_pair(("small", "reals"))(d) | {"n_heads": n_heads, **options}


def slopes(d):
    """What `alibi_slopes` and `alibi_bias` also take."""
    return d.some(bias_max=lambda: d.pick(8, 4.5), heads=lambda: E("range(1)"))


def clipped(d):
    return a_pair(("ints",))(d) | {"max_distance": d.pick(0, 3, 1000)}


def shaw(d):
    q, k = scores(d)
    far = d.pick(0, 1, 3)
    index = d.rng.integers(0, 2 * far + 1, (q.shape[-2], k.shape[-2]))
    index = index.astype("int32")
    return {
        "q": q,
        "k": k,
        "key_table": Host(d.data(2 * far + 1, q.shape[-1])),
        "index": Host(index),
    }


def scores(d):
    lead, width = (*d.lead(1), d.pick(1, 2)), d.pick(1, 4)
    return d.data(*lead, d.size(), width), d.data(*lead, d.size(), width)


def t5(d):
    both = d.pick(True, False)
    made = {"relative_position": d.ints(*d.lead()), "bidirectional": both}
    return made | d.some(num_buckets=lambda: d.pick(4, 32), max_distance=lambda: d.pick(20, 128))


def xl(d):
    q, k = scores(d)
    rows = k.shape[-2] + d.pick(0, max(q.shape[-2], 1) - 1)
    r = Host(d.data(*d.pick((), (q.shape[-3],)), rows, q.shape[-1]))
    u, v = (Host(d.data(q.shape[-3], q.shape[-1])) for _ in "uv")
    return {"q": q, "k": k, "r": r, "u": u, "v": v}


def plain_frequencies(d):
    values = d.frequencies(d.pick(1, 4))
    return d.pick(values, E(f"np.asarray({values})"))


def distance(d):
    shape = d.lead(1)
    return d.pick(d.small, d.reals)(*shape) if d.chance(0.7) else d.pick(3, -2.5, [0, 1, 100])


def curve(d):
    made = {"distance": distance(d), "inv_freq": d.frequencies(d.pick(1, 3))}
    is_array = isinstance(made["distance"], np.ndarray)
    return made | (d.some(dtype=lambda: d.dtype("floats")) if is_array else {})


def bound(d):
    made = curve(d)
    width = 2 * len(made["inv_freq"])
    where = made.pop("distance")
    made["distance"] = Host(where) if isinstance(where, np.ndarray) else where
    return {"q": d.data(width), "k": d.data(width), "layout": d.pick(*LAYOUTS), **made}


def grouped(d):
    kv, width = d.pick(1, 2), d.pick(2, 4)
    lead, q_len, k_len = d.lead(1), d.size(), d.size()
    q = d.data(*lead, kv * d.pick(1, 2), q_len, width)
    k_len = max(k_len, 1)
    return {"q": q, "k": d.data(*lead, kv, k_len, width), "v": d.data(*lead, kv, k_len, 3)}


def attention(d):
    made = grouped(d)
    shape = made["q"].shape[-2], made["k"].shape[-2]
    bias = lambda: Host(d.pick(mask(d, *shape).astype(bool), d.data(*shape)))
    rows = d.pick((), made["q"].shape[:-2][:1]) + shape[:1]
    factors = lambda: Host(d.cast(d.rng.uniform(0.5, 2, rows), "floats"))
    options = {"bias": bias, "scale": lambda: d.pick(0.5, 1, 0), "query_scale": factors}
    return made | d.some(causal=lambda: True, **options)


def linear(d):
    made = grouped(d)
    width = made["q"].shape[-1]
    made |= d.some(causal=lambda: True, rope=lambda: E(f"RoPE({width}, layout='half', base=100.0)"))
    if "rope" in made and d.chance(0.5):
        for x in "qk":
            made[f"{x}_positions"] = Host(d.small(made[x].shape[-2]))
    return made


def cache(d, prefix="self."):
    k = d.data(*d.lead(1), 6, 4, wild=0)
    v = d.cast(d.rng.standard_normal((*k.shape[:-1], 3)), "floats")
    length = d.pick(0, 3, E("np.int64(2)"), np.asarray(4, "int32"))
    return {f"{prefix}k": k, f"{prefix}v": v, f"{prefix}length": length}


def append(d):
    made, seq = cache(d), d.pick(0, 1, 2)
    return made | {
        x: d.data(*made[f"self.{x}"].shape[:-2], seq, w, wild=0) for x, w in (("k", 4), ("v", 3))
    }


def drop(d):
    made = cache(d) | {"self.length": d.pick(4, 6), "n": d.pick(0, 1, 2)}
    return made | {"rope": E("RoPE(4, layout='half')"), "keep": d.pick(0, 1)}


def keep(d):
    made = cache(d) | {"self.length": d.pick(4, 6)}
    return made | {"indices": Host(np.asarray(d.pick([0, 3], [2], []), "int64"))}


def window_cache(d):
    lead = d.lead(1)
    return {"shape": (*lead, 6, 4), "rope": E("RoPE(4, layout='half')"), "sinks": d.pick(0, 2)}


def stream(d):
    made = append(d)
    first = made["self.k"][..., :2, :]
    turn = E("attention._slots.Turn(RoPE(4, layout='half'))")
    return made | {"self.first_k": first, "self.turn": turn}


# -- values ----------------------------------------------------------------------------------------


def schedule(**fields):
    """The fields of a schedule, and what it is called with."""

    def make(d):
        made = {f"self.{name}": d.pick(*values) for name, values in fields.items()}
        options = d.some(
            seq_len=lambda: d.pick(1, 5000), precision=lambda: d.pick("exact", "float32")
        )
        return made | {"rotary_dim": 8, "base": d.pick(10000.0, 100, 5e5), **options}

    return make


def scheme(method, **fields):
    def make(d):
        made = {f"self.{name}": d.pick(*values) for name, values in fields.items()}
        frequencies = {
            "frequencies": E("lambda width, base=None, axis=None: (0.5,) * (width // 2)")
        }
        return made | {"rotary_dim": 8} | (frequencies if method == "__call__" else {})

    return make


def default(rotary_dim, base, seq_len=None, precision="exact"):
    return np.asarray([float(base) ** (-2 * i / rotary_dim) for i in range(rotary_dim // 2)])


def query_scale(**fields):
    """The fields of a query scale, and positions."""

    def make(d):
        made = {f"self.{name}": d.pick(*values) for name, values in fields.items()}
        positions = d.positions(*d.lead())
        if positions.dtype == "float64" or positions.dtype.kind in "iu":
            return made | {"positions": positions}
        return made | {"positions": np.asarray(d.cast(d.small(*positions.shape), "floats"))}

    return make


def learned_scale(d):
    weights = {name: d.cast(d.rng.standard_normal(3), "floats") for name in ("weight", "bias")}
    return {"self.offset": d.pick(1, 2), "positions": d.small(*d.pick((4,), (2, 4))), **weights}


def ranges(**fields):
    """The fields of a scheme, and positions."""

    def make(d):
        made = {f"self.{name}": d.pick(*values) for name, values in fields.items()}
        return made | a_pair(("small",))(d)

    return make


def rotated_ranges(d):
    q, k = d.data(2, d.size(), 4), d.data(1, d.size(), 4)
    scheme = d.pick("SelfExtend(2, 3)", "ReRoPE(2)", "ReRoPE(1, 2.5)", "DualChunk(3, 1)")
    at = f"np.arange({q.shape[-2]}), np.arange({k.shape[-2]})"
    made = {"rope": E("RoPE(4, layout='half')"), "q": q, "k": k}
    return made | {"ranges": E(f"positions.{scheme}({at})")}


def first(oracle):
    """An oracle of exact frequencies alone."""

    def made(self, rotary_dim, base, seq_len=None, precision="exact"):
        return (
            None if precision == "float32" else (oracle(self, default(rotary_dim, base)), 1.0, 1.0)
        )

    return made


CONFIGS = (
    {"model_type": "qwen3", "rope_theta": 1e6, "num_hidden_layers": 2},
    {"model_type": "llama", "hidden_size": 64, "num_attention_heads": 4, "num_hidden_layers": 2,
     "rope_scaling": {"rope_type": "linear", "factor": 2.0}},
    {"model_type": "gpt_neox", "hidden_size": 64, "num_attention_heads": 4, "num_hidden_layers": 2,
     "rotary_pct": 0.25},
)  # fmt: skip
WRONG = (None, -1, 0, 2**70, 1e400, "x", [], {}, True, 0.5, float("nan"), [1, 2], {"factor": None})


def config(d):
    made = {**d.pick(*CONFIGS)}
    if d.chance(0.5):
        made[d.pick(*made, "head_dim", "rope_scaling")] = d.pick(*WRONG)
    return {"config": E(repr(made).replace("nan", "float('nan')").replace("inf", "float('inf')"))}


def implementation(d):
    """A function that rotates, and the code of the `RoPE` that it is."""
    rope = f"RoPE(4, layout={d.pick(*LAYOUTS)!r}, base={d.pick(100, 5e5)})"
    return {
        "fn": E(f"lambda x, positions: {rope}(x, positions=positions)"),
        "rope": E(rope),
        **d.some(rows=lambda: d.pick(None, True, False), seed=lambda: d.pick(0, 1)),
    }


def kernel(d):
    """Options of `cases`."""
    return d.some(
        takes=lambda: d.pick("positions", "tables"),
        dtypes=lambda: d.pick(["float32"], ["float16", "float64"]),
        table_dtype=lambda: d.pick(None, "float64"),
        seq_axis=lambda: d.pick(-2, -3),
        views=lambda: d.chance(0.5),
        rounds_once=lambda: d.chance(0.5),
    )


def factors(*n):
    return [2.0] * 4, (1, 2, 3, 4), E("np.asarray([1.5] * 4)"), [1.0] * 4


LENGTH, FACTOR = (2, 2048, E("np.int64(4096)")), (1.0, 4, 2.5, E("np.float32(8)"))
AXIAL = {
    "widths": (2, (4, 4)),
    "split": (False, True),
    "scale": (1.0, 3),
    "bases": (None, (10, 20.0)),
}
SECTIONS = {"sections": ((2, 2), (3, 1), [2, 2])}
PAIRS = {"pairs": ((0, 1, 1, 0), [0, 0, 1, 1], E("np.asarray([0, 1, 0, 1])"))}
MATRIX = {"matrix": (((1.0, 0.5, 0, 0), (0, 0, 0.25, 2)), E("np.ones((2, 4))"))}

TABLE = {
    "cos_sin": Row(cos_sin, oracles.cos_sin),
    "rotate": Row(rotate, oracles.rotate),
    "sinusoidal": Row(sinusoidal, oracles.sinusoidal),
    "convert_layout": Row(convert, oracles.convert_layout),
    "layouts.guess_layout": Row(guess),
    "xpos_scale": Row(xpos, oracles.xpos_scale, 40),
    "RoPE.__call__": Row(rope_call, oracles.turn),
    "RoPE.inverse": Row(rope_call, oracles.unturn),
    "RoPE.shift": Row(rope_shift, oracles.shift),
    "RoPE.cos_sin": Row(rope_tables, oracles.tables),
    "RoPE.rotate": Row(rope_rotate, oracles.rotate_with),
    "RoPE.frequencies": Row(lambda d: encoding(d, "self.")[0] | d.some(seq_len=lambda: 64)),
    "RoPE.from_config": Row(
        lambda d: (
            config(d)
            | d.some(layout=lambda: d.pick(*LAYOUTS), part=lambda: d.pick("text", "vision"))
        )
    ),
    "positions.token_positions": Row(token_positions, oracles.token_positions),
    "positions.packed_positions": Row(packed, oracles.packed_positions),
    "positions.packed_documents": Row(packed, oracles.packed_documents),
    "positions.tree_positions": Row(
        lambda d: drafts(d) | d.some(offset=lambda: d.pick(0, 7)), oracles.tree_positions
    ),
    "positions.shard_indices": Row(shards, oracles.shard_indices),
    "positions.Tokens.sequence": Row(token_positions),
    "positions.Tokens.packed": Row(packed),
    "positions.Tokens.padded": Row(lambda d: {"mask": mask(d, *d.pick((), (2,)), d.size())}),
    "positions.Tokens.text_image": Row(text_image),
    "positions.Tokens.tree": Row(drafts),
    "positions.Tokens.take": Row(
        lambda d: {
            "self.positions": d.small(5),
            "indices": d.cast(d.rng.integers(0, 5, d.size()), "ints"),
        },
        lambda self, indices: (self.positions[indices], *[None] * 5),
    ),
    "positions.Tokens.join": Row(
        lambda d: {"self.positions": np.arange(5), "other": E("positions.Tokens(xp.arange(3))")}
    ),
    "positions.Tokens.following": Row(
        lambda d: {"self.positions": d.small(5), "self.next_position": 9, "n": d.pick(0, 1, 3)}
    ),
    "positions.mask_positions": Row(
        lambda d: {"mask": mask(d, *d.lead(1), d.size())}, oracles.mask_positions
    ),
    "positions.mask_grid_positions": Row(mask_grid, oracles.mask_grid_positions),
    "positions.zigzag_positions": Row(zigzag, oracles.zigzag_positions),
    "positions.grid_positions": Row(grid, oracles.grid_positions),
    "positions.centered_axis": Row(
        a_line(symmetric=(True, False)),
        lambda n, symmetric=False: tuple(
            k - ((n - 1) / 2 if symmetric else n - n // 2) for k in range(n)
        ),
    ),
    "positions.normalized_axis": Row(
        a_line(length=(4, 2.5)),
        lambda n, length=None: tuple((2 * k + 1) / (length or n) - 1 for k in range(n)),
    ),
    "positions.rescaled_axis": Row(
        lambda d: a_line(offset=(1, 2), floor=(True, False))(d) | {"reference": d.pick(3, 8)},
        lambda n, reference, offset=0, floor=False: tuple(
            (k + offset) * reference // n if floor else (k + offset) * reference / n
            for k in range(n)
        ),
    ),
    "positions.time_axis": Row(
        lambda d: a_line(truncate=(True, False), rate=(13, 0.7))(d) | {"step": d.pick(1.5, 2, 0.1)},
        oracles.time_axis,
    ),
    "positions.text_image_positions": Row(text_image, oracles.text_image_positions),
    "positions.text_image_types": Row(text_image, oracles.text_image_types),
    "positions.text_image_parts": Row(text_parts),
    "analysis.wavelengths": Row(lambda d: {"inv_freq": plain_frequencies(d)}, oracles.wavelengths),
    "analysis.turns": Row(
        lambda d: {"inv_freq": plain_frequencies(d), "length": d.pick(0, 5, 1e6)}, oracles.turns
    ),
    "analysis.decay_bound": Row(curve, oracles.decay_bound),
    "analysis.abel_bound": Row(bound, oracles.abel_bound, 64),
    "analysis.score_curve": Row(bound, oracles.score_curve, 64),
    "analysis.advantage": Row(curve, oracles.advantage),
    "analysis.context_bound": Row(
        lambda d: {"inv_freq": plain_frequencies(d), "limit": d.pick(1, 50, 300)}, None
    ),
    "relative.relative_positions": Row(a_pair(("ints", "reals")), oracles.relative_positions),
    "relative.alibi_slopes": Row(
        lambda d: {"n_heads": d.pick(1, 3, 8, 33), **slopes(d), **made_on(d, "floats")},
        oracles.alibi_slopes,
    ),
    "relative.alibi_bias": Row(alibi, oracles.alibi_bias),
    "relative.clipped_index": Row(clipped, oracles.clipped_index),
    "relative.shaw_score": Row(shaw, oracles.shaw_score, 64),
    "relative.t5_bucket": Row(t5, oracles.t5_bucket),
    "relative.transformer_xl_score": Row(xl, oracles.transformer_xl_score, 64),
    "attention.attention": Row(attention, oracles.attention, 64),
    "attention.linear_attention": Row(linear, oracles.linear_attention, 256),
    "attention.rotate_ranges": Row(rotated_ranges),
    "positions.SelfExtend.__call__": Row(ranges(group_size=(1, 2, 7), window=(1, 5, 1000))),
    "positions.ReRoPE.__call__": Row(ranges(window=(1, 5, 1000), factor=(None, 1, 2.5, 16))),
    "positions.DualChunk.__call__": Row(ranges(chunk_size=(8, 1000), local_size=(0, 3, 7))),
    "positions.DualChunk.softmax_factor": Row(
        lambda d: {
            "self.chunk_size": 8,
            "self.local_size": 2,
            "self.original_max_position_embeddings": d.pick(None, 16),
            "seq_len": d.pick(1, 16, 100),
        }
    ),
    "attention.causal_mask": Row(causal, oracles.causal_mask),
    "attention.attention_mask": Row(pairs, oracles.attention_mask),
    "attention.flex_mask_mod": Row(pairs),
    "attention.tree_mask": Row(drafts, oracles.tree_mask),
    "attention.KVCache.empty": Row(
        lambda d: {"shape": (*d.lead(1), 6, 4), **made_on(d, "floats")}, oracles.empty
    ),
    "attention.KVCache.append": Row(append, oracles.append),
    "attention.KVCache.drop": Row(drop, oracles.drop),
    "attention.KVCache.crop": Row(
        lambda d: cache(d) | {"self.length": 4, "length": d.pick(0, 2, 4)},
        lambda self, length: (self.k.astype(float), self.v.astype(float), length),
    ),
    "attention.KVCache.keep": Row(keep),
    "attention.KVCache.mask": Row(lambda d: cache(d) | {"q_positions": d.small(d.size())}),
    "attention.WindowCache.append": Row(stream),
    "attention.WindowCache.mask": Row(
        lambda d: (
            {k: v for k, v in stream(d).items() if "." in k} | {"q_positions": d.small(d.size())}
        )
    ),
    "attention.WindowCache.empty": Row(lambda d: window_cache(d) | made_on(d, "floats")),
    "scaling.inverse_frequencies": Row(
        lambda d: {"rotary_dim": 8, "base": d.pick(100, 1e4)}, default
    ),
    "scaling.YaRN.ramp": Row(
        lambda d: {
            "self.factor": 4.0,
            "self.original_max_position_embeddings": 2048,
            "rotary_dim": 8,
            "base": 1e4,
        }
    ),
    "scaling.Default.__call__": Row(schedule(), first(lambda self, w: w)),
    "scaling.Linear.__call__": Row(schedule(factor=FACTOR), first(lambda self, w: w / self.factor)),
    "scaling.NTK.__call__": Row(schedule(factor=FACTOR)),
    "scaling.DynamicNTK.__call__": Row(schedule(factor=FACTOR, max_position_embeddings=LENGTH)),
    "scaling.SteppedNTK.__call__": Row(schedule(max_position_embeddings=LENGTH)),
    "scaling.YaRN.__call__": Row(schedule(factor=FACTOR, original_max_position_embeddings=LENGTH)),
    "scaling.NTKByParts.__call__": Row(
        schedule(factor=FACTOR, original_max_position_embeddings=LENGTH)
    ),
    "scaling.LongRoPE.__call__": Row(
        schedule(
            short_factor=factors(), long_factor=factors(), original_max_position_embeddings=LENGTH
        )
    ),
    "scaling.Llama3.__call__": Row(
        schedule(
            factor=FACTOR,
            low_freq_factor=(1.0, 2),
            high_freq_factor=(4.0, 8),
            original_max_position_embeddings=LENGTH,
        )
    ),
    "scaling.Proportional.__call__": Row(schedule(partial_rotary_factor=(1.0, 0.5), factor=FACTOR)),
    "scaling.FrequencyFactors.__call__": Row(
        schedule(factors=factors()), first(lambda self, w: w / self.factors)
    ),
    "scaling.Custom.__call__": Row(
        schedule(inv_freq=factors()), first(lambda self, w: np.asarray(self.inv_freq))
    ),
    "scaling.RIFLEx.__call__": Row(schedule(k=(1, 4), L_test=(66, 0.5))),
    "scaling.Negated.__call__": Row(schedule(scaling=(None, E("scaling.Linear(2.0)")))),
    "scaling.FloorLogScale.__call__": Row(
        query_scale(length=(2, 7, 8192), beta=(0.1, 1, 2.5), offset=(0, 1)), oracles.query_scale
    ),
    "scaling.LogScale.__call__": Row(
        query_scale(length=(2, 7, 8192), beta=(0.1, 1, None), offset=(0, 1)), oracles.query_scale
    ),
    "scaling.PowerScale.__call__": Row(
        query_scale(length=(2, 7, 8192), beta=(0.1, 1), offset=(0, 1)), oracles.query_scale, 64
    ),
    "scaling.LearnedLogScale.__call__": Row(learned_scale, oracles.learned_scale),
    "axes.golden_directions": Row(
        lambda d: {
            "n_axes": d.pick(1, 2, 3),
            "n_pairs": 4,
            "slowest": 0.1,
            "fastest": d.pick(1.0, 2),
        }
    ),
    "configs.layer_ropes": Row(
        lambda d: (
            config(d)
            | d.some(layout=lambda: d.pick(*LAYOUTS), part=lambda: d.pick("text", "vision"))
        )
    ),
    "configs.explain": Row(
        lambda d: {"config_or_ropes": config(d)["config"]} | d.some(seq_len=lambda: d.pick(8, 4096))
    ),
    "configs.explain_difference": Row(
        lambda d: {"a": config(d)["config"], "b": config(d)["config"]}
    ),
    "configs.to_config": Row(
        lambda d: {
            "ropes": E(f"RoPE(8, layout={d.pick(*LAYOUTS)!r}, base={d.pick(100, 5e5)})"),
            **d.some(model_type=lambda: d.pick("llama", "made up", "gemma3_text")),
        }
    ),
    "configs.plot": Row(lambda d: config(d) | {"path": "plot.svg"}),
    "testing.check": Row(
        lambda d: implementation(d) | d.some(max_position=lambda: d.pick(8, 100, 10**6))
    ),
    "testing.assert_rotates": Row(lambda d: implementation(d) | {"views": d.chance(0.5)}),
    "testing.cases": Row(lambda d: {"rope": implementation(d)["rope"], **kernel(d)}),
    "testing.diagnose": Row(
        lambda d: {
            "fn": implementation(d)["fn"],
            "head_dim": 4,
            **d.some(max_position=lambda: d.pick(1, 8, 1000)),
        }
    ),
    "testing.from_sequence": Row(lambda d: {"fn": E("lambda x: x")}),
    "testing.from_offset": Row(lambda d: {"fn": E("lambda x, offset: x")}),
    "testing.diagnose_model": Row(lambda d: {"model": E("RoPE(4, layout='half')")}),
}
for name, fields in (
    ("Axial", AXIAL), ("Sections", SECTIONS), ("InterleavedSections", SECTIONS),
    ("AxisPerPair", PAIRS), ("Directions", MATRIX),
):  # fmt: skip
    for method in ("__call__", "blocks", "axis_of_pair"):
        if (name, method) != ("Directions", "axis_of_pair"):
            TABLE[f"axes.{name}.{method}"] = Row(scheme(method, **fields))
