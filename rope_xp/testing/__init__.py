"""Anybody's implementation of RoPE, tried against the definition."""

from rope_xp._exports import set_public_module
from rope_xp.testing._black_box import RotationError
from rope_xp.testing._check import check
from rope_xp.testing._model import LayerDiagnosis, ModelDiagnosis, diagnose_model
from rope_xp.testing._trial import Law, Report

__all__ = [
    "Law",
    "LayerDiagnosis",
    "ModelDiagnosis",
    "Report",
    "RotationError",
    "check",
    "diagnose_model",
]

set_public_module(__name__)
