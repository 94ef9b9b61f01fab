"""ndonnx: graphs of ONNX, with sizes that are not known before they run: None in shapes."""

from __future__ import annotations

from rope_xp._backends.library import Array, Library, Namespace


def load() -> Namespace:
    import ndonnx

    return ndonnx


def count(array: Array, axis: int) -> Array:
    return array.dynamic_shape[axis]


def reshape(array: Array, shape: tuple[int | None, ...]) -> Array:
    xp = load()
    known = next((i for i in reversed(range(len(shape))) if shape[i] is None), -1) + 1
    if known == 0:
        return xp.reshape(array, shape)
    return xp.reshape(array, xp.concat([array.dynamic_shape[:known], xp.asarray(shape[known:])]))


LIBRARY = Library("ndonnx", load, count=count, reshape=reshape)
