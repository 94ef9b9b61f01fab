"""What rounding changes: units of dtypes, rounded numbers, and roundings of an angle."""

from __future__ import annotations

import numpy as np

#: Half of the distance from 1 to the next number: the relative error of one rounding.
ROUNDING = {"float16": 2.0**-11, "bfloat16": 2.0**-8, "float32": 2.0**-24, "float64": 2.0**-53}

#: That of float32.
EPS = ROUNDING["float32"]

#: Dtypes in which angles and tables should not be.
NARROW = ("bfloat16", "float16")


def angle_roundings(inv_freq: np.ndarray) -> np.ndarray:
    r"""By how many roundings of itself an angle :math:`p θ` may be wrong, :math:`4 + 3 |\ln θ|`.

    A frequency is a power, or the exponential of a product with :math:`\ln b`: up to three roundings of its
    exponent, each of which is :math:`|\ln θ|` of θ. The function, a reciprocal, the product and the position
    are wrong by one each.
    """
    theta = np.abs(inv_freq)
    return np.asarray(4 + 3 * np.abs(np.log(np.where(theta > 0, theta, 1.0))))


def rounded(values: np.ndarray, dtype: str) -> np.ndarray:
    """Float64 ``values`` as the nearest numbers of float32 or, from there, of a narrow dtype."""
    with np.errstate(over="ignore"):
        single = np.asarray(values, dtype=np.float64).astype(np.float32)
        if dtype != "bfloat16":
            return single.astype(dtype).astype(np.float64)
    bits = single.view(np.uint32)
    odd = bits >> np.uint32(16) & np.uint32(1)  # ties go to even
    kept = (bits + np.uint32(0x7FFF) + odd) & np.uint32(0xFFFF0000)
    return kept.view(np.float32).astype(np.float64)
