"""Anybody's implementation of RoPE, tried against the definition."""

from rope_xp._exports import set_public_module
from rope_xp.testing._adapters import from_offset, from_sequence
from rope_xp.testing._assert_rotates import assert_rotates
from rope_xp.testing._black_box import RotationError
from rope_xp.testing._cases import Case, cases
from rope_xp.testing._check import check
from rope_xp.testing._diagnose import Diagnosis, diagnose
from rope_xp.testing._model import LayerDiagnosis, ModelDiagnosis, diagnose_model
from rope_xp.testing._trial import Law, Report

__all__ = [
    "Case",
    "Diagnosis",
    "Law",
    "LayerDiagnosis",
    "ModelDiagnosis",
    "Report",
    "RotationError",
    "assert_rotates",
    "cases",
    "check",
    "diagnose",
    "diagnose_model",
    "from_offset",
    "from_sequence",
]

set_public_module(__name__)
