"""Anybody's implementation of RoPE, tried against the definition."""

from rope_xp._exports import set_public_module
from rope_xp.testing._black_box import RotationError
from rope_xp.testing._check import check
from rope_xp.testing._diagnose import Diagnosis, diagnose
from rope_xp.testing._trial import Law, Report

__all__ = ["Diagnosis", "Law", "Report", "RotationError", "check", "diagnose"]

set_public_module(__name__)
