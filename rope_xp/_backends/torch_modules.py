"""What a model of torch does with queries and keys: a forward pass that is watched, and leaves no trace."""

from __future__ import annotations

import contextlib
import functools
import inspect
import re
import sys
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

# Names of functions that rotate queries and keys, and of modules that make tables or hold frequencies.
_APPLIES = re.compile(r"apply.*(rot|rope)|rotate_quer", re.IGNORECASE)
_ROTARY = re.compile(r"rotary|rope", re.IGNORECASE)
_ATTENTION = re.compile(r"attention|attn|indexer|mla", re.IGNORECASE)
_FREQUENCIES = re.compile(r"inv_freq|freqs|theta", re.IGNORECASE)


class Scored(NamedTuple):
    """The queries and keys of one attention, as they are multiplied.

    Parameters
    ----------
    name : str
        Of the module, as in ``named_modules``.
    number : int or None
        Of its layer.
    q, k : numpy.ndarray of float64, shape (n_positions, n, head_dim)
        ``n``: of several tokens and heads.
    dtype : str
    """

    name: str
    number: int | None
    q: np.ndarray
    k: np.ndarray
    dtype: str


class Applied(NamedTuple):
    """What a function that rotates got and returned at the first position, (n, features) each."""

    name: str
    function: str
    before: np.ndarray
    after: np.ndarray


class Table(NamedTuple):
    """What a rotary module returned: cos and sin, (n_positions, width) each."""

    name: str
    kind: str
    cos: np.ndarray
    sin: np.ndarray
    dtype: str


class Buffer(NamedTuple):
    """Frequencies that a module holds."""

    name: str
    values: np.ndarray
    dtype: str


class Recording(NamedTuple):
    """What was seen in one forward pass."""

    scored: list[Scored]
    applied: list[Applied]
    tables: list[Table]


def require_model(model: Any) -> Any:
    """``model`` if it is a module of torch with a config, and with weights.

    Raises
    ------
    ValueError, TypeError
        If not.
    """
    import torch

    model = getattr(model, "_orig_mod", model)  # of torch.compile
    if not isinstance(model, torch.nn.Module):
        msg = f"`model` must be a torch.nn.Module, got {type(model).__name__}"
        raise TypeError(msg)
    stored = (*model.named_parameters(), *model.named_buffers())
    for name, tensor in stored:
        if tensor.is_meta:
            msg = f"`model` must have values, but {name!r} is on the meta device: load weights, or call to_empty()"
            raise ValueError(msg)
    return model


def attention_modules(model: Any) -> dict[str, int | None]:
    """Names of the modules that look like attention, and the numbers of their layers."""
    found = {
        name: _number(name, module)
        for name, module in model.named_modules()
        if _ATTENTION.search(type(module).__name__) and hasattr(module, "forward")
    }
    return {
        n: i for n, i in found.items() if not any(m != n and m.startswith(f"{n}.") for m in found)
    }


def frequency_buffers(model: Any) -> list[Buffer]:
    """The frequencies that modules hold as buffers or as plain tensors."""
    import torch

    found = []
    for name, module in model.named_modules():
        stored = {**module._buffers, **vars(module)}
        for key, value in stored.items():
            is_one = (
                isinstance(value, torch.Tensor) and value.ndim == 1 and value.is_floating_point()
            )
            if is_one and "inv_freq" in key and "original" not in key:
                full = f"{name}.{key}" if name else key
                found.append(Buffer(full, _numpy(value), _dtype(value)))
    return found


def takes_positions(model: Any) -> bool:
    """Whether ``forward`` has a parameter ``position_ids``, or may pass it on."""
    kinds = inspect.signature(model.forward).parameters
    return "position_ids" in kinds or any(p.kind is p.VAR_KEYWORD for p in kinds.values())


def watch(
    model: Any, tokens: np.ndarray, positions: np.ndarray | None, *, n_positions: int
) -> Recording:
    """One forward pass, without gradients, and what was seen in it.

    Parameters
    ----------
    model : torch.nn.Module
    tokens : numpy.ndarray of integers, shape (rows, seq)
        Each row has one token only, over and over, so that attention gives it back whatever its
        positions are, and no layer's input depends on them.
    positions : numpy.ndarray of integers, (rows, seq) or (n_axes, rows, seq), optional
    n_positions : int
        How many positions there are along rows, if ``seq`` is 1, or along seq.
    """
    import torch

    seen = _Seen(tokens.shape, n_positions)
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    given: dict[str, Any] = {"input_ids": torch.as_tensor(tokens, dtype=torch.int64, device=device)}
    if positions is not None:
        given["position_ids"] = torch.as_tensor(positions, dtype=torch.int64, device=device)
    if "use_cache" in inspect.signature(model.forward).parameters:
        given["use_cache"] = False
    devices = [device] if device.type == "cuda" else []
    with (
        _unchanged(model),
        torch.random.fork_rng(devices=devices),
        torch.no_grad(),
        _hooked(model, seen),
        _patched(model, seen),
        _functions(seen),
    ):
        model.eval()
        model(**given)
    return Recording(seen.scored, seen.applied, seen.tables)


class _Seen:
    """What the hooks note, and in which module the pass is."""

    def __init__(self, shape: tuple[int, ...], n_positions: int) -> None:
        self.rows, self.seq = shape
        self.n_positions = n_positions
        self.inside: list[tuple[str, Any]] = []
        self.depth = 0
        self.scored: list[Scored] = []
        self.applied: list[Applied] = []
        self.tables: list[Table] = []

    def attention(self) -> tuple[str, Any] | None:
        """The innermost module that looks like attention."""
        for name, module in reversed(self.inside):
            if _ATTENTION.search(type(module).__name__):
                return name, module
        return None

    def score(self, q: Any, k: Any) -> None:
        """Note queries and keys, (rows, heads, seq, head_dim), or heads and rows in one axis."""
        where = self.attention()
        if where is None or any(each.name == where[0] for each in self.scored):
            return
        q, k = (x.reshape(self.rows, -1, *x.shape[-2:]) for x in (q, k))
        name, module = where
        self.scored.append(
            Scored(
                name, _number(name, module), self._by_position(q), self._by_position(k), _dtype(q)
            )
        )

    def is_scores(self, a: Any, b: Any) -> bool:
        """Whether a product can be that of queries and keys."""
        if not (hasattr(a, "shape") and hasattr(b, "shape")) or a.ndim != b.ndim or a.ndim < 3:
            return False
        width = a.shape[-1]
        sizes = a.shape[-2], b.shape[-1], b.shape[-2]
        return (
            sizes == (self.seq, self.seq, width)
            and width not in (1, self.seq)
            and all(np.prod(x.shape[:-2]) % self.rows == 0 for x in (a, b))
        )

    def _by_position(self, x: Any) -> np.ndarray:
        """(rows, heads, seq, features) → (n_positions, tokens times heads, features)."""
        values = _numpy(x)
        if self.seq == 1:
            return values.reshape(self.n_positions, -1, values.shape[-1])
        return np.moveaxis(values, 2, 0).reshape(self.seq, -1, values.shape[-1])

    def apply(self, function: str, given: tuple[Any, ...], made: Any) -> None:
        """Note what a function that rotates made of its first arguments at the first position."""
        where = self.attention() or (self.inside[-1] if self.inside else ("", None))
        for before, after in zip(
            given, made if isinstance(made, tuple | list) else [made], strict=False
        ):
            if not hasattr(after, "shape") or before.shape != after.shape or before.ndim < 3:
                continue
            pair = [self._first(_numpy(x)) for x in (before, after)]
            if pair[0] is not None:
                self.applied.append(Applied(where[0], function, *pair))

    def _first(self, values: np.ndarray) -> Any:
        width = values.shape[-1]
        if self.seq == 1:
            n = values.shape[0] // self.n_positions
            return (
                values[:n].reshape(-1, width) if values.shape[0] % self.n_positions == 0 else None
            )
        for axis in (2, 1) if values.ndim == 4 else (1,):
            if values.shape[axis] == self.seq:
                return np.take(values, 0, axis=axis).reshape(-1, width)
        return None

    def table(self, name: str, module: Any, made: Any) -> None:
        """Note cos and sin, or complex numbers, that a module returned."""
        if not _ROTARY.search(type(module).__name__):
            return
        is_pair = isinstance(made, tuple | list) and len(made) == 2
        if is_pair and all(hasattr(x, "shape") and x.ndim >= 2 for x in made):
            cos, sin = map(_numpy, made)
        elif hasattr(made, "is_complex") and made.is_complex():
            cos, sin = _numpy(made.real), _numpy(made.imag)
        else:
            return
        width = cos.shape[-1]
        rows = cos.size // width if width else 0
        if cos.shape != sin.shape or rows not in (self.rows * self.seq, self.seq):
            return
        if self.seq == 1:
            if rows != self.rows:
                return
            cos, sin = (x.reshape(self.n_positions, -1, width)[:, 0] for x in (cos, sin))
        else:
            cos, sin = (x.reshape(-1, self.seq, width)[0] for x in (cos, sin))
        tensor = made[0] if is_pair else made
        self.tables.append(Table(name, type(module).__name__, cos, sin, _dtype(tensor)))


@contextlib.contextmanager
def _hooked(model: Any, seen: _Seen) -> Iterator[None]:
    """Hooks by which ``seen`` knows where the pass is."""
    handles = []

    def enter(name: str, module: Any, _: Any) -> None:
        seen.inside.append((name, module))

    def leave(name: str, module: Any, _: Any, made: Any) -> None:
        seen.inside.pop()
        seen.table(name, module, made)

    try:
        for name, module in model.named_modules():
            if name:
                handles.append(
                    module.register_forward_pre_hook(_silent(functools.partial(enter, name)))
                )
                handles.append(
                    module.register_forward_hook(_silent(functools.partial(leave, name)))
                )
        yield
    finally:
        for handle in handles:
            handle.remove()


def _silent(note: Callable[..., None]) -> Callable[..., None]:
    """``note``, whose own operations are not watched."""
    import torch

    def hook(*given: Any) -> None:
        with torch._C.DisableTorchFunction():
            note(*given)

    return hook


@contextlib.contextmanager
def _patched(model: Any, seen: _Seen) -> Iterator[None]:
    """Functions that rotate, by their names in the Python modules of the model's classes, replaced."""
    places = {type(module).__module__ for module in model.modules()}
    replaced: list[tuple[Any, str, Any]] = []

    def wrapped(name: str, function: Any) -> Any:
        @functools.wraps(function)
        def call(*given: Any, **named: Any) -> Any:
            outermost = seen.depth == 0
            seen.depth += 1
            try:
                tensors = tuple(x for x in (*given, *named.values()) if hasattr(x, "ndim"))
                kept = tuple(x.clone() for x in tensors) if outermost else ()
                made = function(*given, **named)
            finally:
                seen.depth -= 1
            if outermost:
                seen.apply(name, kept, made)
            return made

        return call

    try:
        for place in sorted(places):
            if place.partition(".")[0] == "torch" or place not in sys.modules:
                continue
            names = vars(sys.modules[place])
            for name, function in [*names.items()]:
                if inspect.isfunction(function) and _APPLIES.search(name):
                    replaced.append((names, name, function))
                    names[name] = wrapped(name, function)
        yield
    finally:
        for names, name, function in replaced:
            names[name] = function


def _functions(seen: _Seen) -> Any:
    """A mode of torch in which products of queries and keys are noted."""
    import torch

    attend = torch.nn.functional.scaled_dot_product_attention
    products = {
        torch.matmul,
        torch.bmm,
        torch.Tensor.matmul,
        torch.Tensor.bmm,
        torch.Tensor.__matmul__,
    }

    added = {torch.baddbmm, torch.Tensor.baddbmm}

    class Watched(torch.overrides.TorchFunctionMode):  # type: ignore[misc]
        def __torch_function__(
            self, function: Any, types: Any, given: Any = (), named: Any = None
        ) -> Any:
            named = named or {}
            if function is attend:
                q = given[0] if given else named["query"]
                seen.score(q, given[1] if len(given) > 1 else named["key"])
            elif function in products and len(given) == 2 and seen.is_scores(*given):
                seen.score(given[0], given[1].transpose(-2, -1))
            elif function in added and len(given) == 3 and seen.is_scores(*given[1:]):
                seen.score(given[1], given[2].transpose(-2, -1))
            return function(*given, **named)

    return Watched()


@contextlib.contextmanager
def _unchanged(model: Any) -> Iterator[None]:
    """Attributes, buffers and configs of a model as they were, afterwards."""
    modules = [*model.modules()]
    attributes = [dict(vars(module)) for module in modules]
    buffers = [dict(module._buffers) for module in modules]
    stored = [
        (b, b.clone())
        for module in modules
        if _ROTARY.search(type(module).__name__) or any(map(_FREQUENCIES.search, module._buffers))
        for b in module._buffers.values()
        if b is not None
    ]
    found: Any = (getattr(module, "config", None) for module in modules)
    configs = {id(config): config for config in found if hasattr(config, "__dict__")}
    kept = [(vars(config), dict(vars(config))) for config in configs.values()]
    try:
        for config in configs.values():
            # Those of other names are kernels that can't be watched, and run on few devices.
            used = getattr(config, "_attn_implementation", None)
            if used not in (None, "eager", "sdpa"):
                config._attn_implementation = "eager"
        yield
    finally:
        for now, before in kept:
            now.clear()
            now.update(before)
        for module, names, tensors in zip(modules, attributes, buffers, strict=True):
            vars(module).clear()
            vars(module).update(names)
            module._buffers.clear()
            module._buffers.update(tensors)
        for buffer, values in stored:
            if not _is_equal(buffer, values):
                buffer.copy_(values)


def _is_equal(a: Any, b: Any) -> bool:
    return bool(((a == b) | a.isnan() & b.isnan()).all())


def _number(name: str, module: Any) -> int | None:
    number = getattr(module, "layer_idx", None)
    if isinstance(number, int):
        return number
    found = re.findall(r"(?:^|\.)(\d+)(?:\.|$)", name)
    return int(found[0]) if found else None


def _dtype(tensor: Any) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _numpy(tensor: Any) -> np.ndarray:
    tensor = tensor.detach().cpu()
    return np.array(tensor.to(_float64()).numpy())


def _float64() -> Any:
    import torch

    return torch.float64
