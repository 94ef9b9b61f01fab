"""Dtypes by their names: bfloat16 is not in the standard, and ``isdtype`` does not know it everywhere."""

from __future__ import annotations

from rope_xp._backends.library import Array, Device, Dtype, Namespace

FLOATING = ("float16", "bfloat16", "float32", "float64")
INTEGER = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
_KNOWN = FLOATING + INTEGER


def dtype_name(dtype: Dtype) -> str:
    """``"float32"`` for NumPy's, torch's, JAX's, … own spelling of it."""
    # The scalar type that a NumPy dtype carries knows its name at once; dtype.name composes it.
    name: str | None = getattr(getattr(dtype, "type", dtype), "__name__", None)
    if name is not None and name in _KNOWN:
        return name
    return getattr(dtype, "name", None) or name or str(dtype).rpartition(".")[2]


def is_floating(array: Array) -> bool:
    return dtype_name(array.dtype) in FLOATING


def is_integer(array: Array) -> bool:
    return dtype_name(array.dtype) in INTEGER


def is_boolean(array: Array) -> bool:
    return "bool" in dtype_name(array.dtype)


def require_floating(**arrays: Array | None) -> set[str]:
    """The names of the arrays' dtypes; TypeError unless all are real floating, bfloat16 included."""
    names, known = set(), ""  # not None, which NumPy takes for float64
    for name, array in arrays.items():
        if array is None or array.dtype is known:
            continue
        known = array.dtype
        names.add(require_dtype(name, known))
    return names


def require_dtype(name: str, dtype: Dtype) -> str:
    """The name of a floating ``dtype``; TypeError for any other."""
    found = dtype_name(dtype)
    if found not in FLOATING:
        msg = f"`{name}` must be one of {', '.join(FLOATING)}, got {found[:100]}"
        raise TypeError(msg)
    return found


def compute_dtype(xp: Namespace, *arrays: Array | None, dtype: Dtype | None = None) -> Dtype:
    """float64 if one of the ``arrays`` or ``dtype`` is, else float32: nothing is computed in less."""
    wide = dtype is not None and dtype_name(dtype) == "float64"
    for array in arrays:
        wide = wide or (array is not None and dtype_name(array.dtype) == "float64")
    return xp.float64 if wide else xp.float32


def default_integer_dtype(xp: Namespace, device: Device | None) -> Dtype:
    """The dtype of ``arange`` there: int64, or int32 where 64 bits are switched off."""
    return xp.arange(0, device=device).dtype


def cast(array: Array, dtype: Dtype, xp: Namespace) -> Array:
    """``array`` in ``dtype``: itself if it has it (``xp.astype`` would copy)."""
    same = array.dtype is dtype or array.dtype == dtype  # the first is the quicker one
    return array if same else xp.astype(array, dtype, copy=False)
