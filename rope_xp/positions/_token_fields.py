"""`Tokens`: where tokens are, and what decides which of them see each other, in one value."""

# Without ``from __future__ import annotations``: the field types of `Tokens` are then types, not text
# that would be looked up in the package that it says it comes from.
from typing import NamedTuple

from rope_xp._backends import Array


class Tokens(NamedTuple):
    """Where tokens are, and what decides which of them see each other."""

    positions: Array
    order: Array | None = None
    documents: Array | None = None
    images: Array | None = None
    tree: Array | None = None
    next_position: int | Array | None = None
