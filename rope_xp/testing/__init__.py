"""Anybody's implementation of RoPE, tried against the definition."""

from rope_xp._exports import set_public_module
from rope_xp.testing._adapters import from_offset, from_sequence
from rope_xp.testing._assert_rotates import assert_rotates
from rope_xp.testing._black_box import RotationError
from rope_xp.testing._cases import Case, cases
from rope_xp.testing._check import check
from rope_xp.testing._diagnose import Diagnosis, diagnose
from rope_xp.testing._trial import Law, Report

__all__ = [
    "Case",
    "Diagnosis",
    "Law",
    "Report",
    "RotationError",
    "assert_rotates",
    "cases",
    "check",
    "diagnose",
    "from_offset",
    "from_sequence",
]

set_public_module
from rope_xp.testing._adapters import from_offset, from_sequence
from rope_xp.testing._assert_rotates import assert_rotates
from rope_xp.testing._black_box import RotationError
from rope_xp.testing._cases import Case, cases
from rope_xp.testing._check import check
from rope_xp.testing._diagnose import Diagnosis, diagnose
from rope_xp.testing._trial import Law, Report

<<<<<<< HEAD
__all__ = ["Diagnosis", "Law", "Report", "RotationError", "check", "diagnose"]
=======
__all__ = [
    "Case",
    "Law",
    "Report",
    "RotationError",
    "assert_rotates",
    "cases",
    "check",
    "from_offset",
    "from_sequence",
]
>>>>>>> 93e7408 (usable: testing.cases and assert_rotates for kernels, with derived tolerances; adapters from_sequence and from_offset)

set_public_module(__name__)
