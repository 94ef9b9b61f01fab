"""The library's public functions under ``jax.jit``: what tests with `lib` call on JAX.

Compiled programs are what JAX users run, and they refuse what eager arrays let through: a value
that is looked at, a shape that depends on one. One program also compiles faster than each of its
operations for each shape.
"""

import functools
import inspect

import jax

import rope_xp
from rope_xp import (
    RoPE,
    additive,
    analysis,
    attention,
    layouts,
    phases,
    positions,
    relative,
    rotation,
    scaling,
)

QUERY_SCALES = (
    scaling.FloorLogScale,
    scaling.LogScale,
    scaling.PowerScale,
    scaling.LearnedLogScale,
)
RANGE_SCHEMES = (positions.SelfExtend, positions.ReRoPE, positions.DualChunk)
MODULES = (additive, analysis, attention, layouts, phases, positions, relative, rope_xp, rotation)


def is_array(leaf):
    return isinstance(leaf, jax.Array)


def jitted(function):
    """``function`` with JAX's arrays traced. All else that comes in or goes out is static."""

    @functools.wraps(function)
    def call(*args, **kwargs):
        leaves, tree = jax.tree.flatten((args, kwargs))
        if any(isinstance(leaf, jax.core.Tracer) for leaf in leaves):
            return function(*args, **kwargs)  # inside a function that is traced already
        out = None

        @jax.jit
        def program(arrays):
            nonlocal out
            arrays = iter(arrays)
            args, kwargs = tree.unflatten(next(arrays) if is_array(x) else x for x in leaves)
            out = jax.tree.flatten(function(*args, **kwargs))
            return [leaf if is_array(leaf) else None for leaf in out[0]]

        found = program([leaf for leaf in leaves if is_array(leaf)])
        statics, tree = out
        return tree.unflatten(s if f is None else f for f, s in zip(found, statics, strict=True))

    return call


def replace(monkeypatch, module):
    """Every public function and method by its jitted self, in the library and in ``module``."""
    functions = {
        function: jitted(function)
        for module in MODULES
        for name in module.__all__
        if inspect.isfunction(function := getattr(module, name))
    }
    for place in (*MODULES, module):
        for name, value in list(vars(place).items()):
            if inspect.isfunction(value) and value in functions:
                monkeypatch.setattr(place, name, functions[value])
    caches = (attention.KVCache, attention.WindowCache)
    for kind in (RoPE, *caches, positions.Tokens, *QUERY_SCALES, *RANGE_SCHEMES):
        for name, value in list(vars(kind).items()):
            if inspect.isfunction(value) and (name == "__call__" or not name.startswith("_")):
                monkeypatch.setattr(kind, name, jitted(value))
