"""What a peer is, and the list that the files beside this one fill."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata

from rope_xp import RoPE

MILLION = 2**20


@dataclass(frozen=True)
class Peer:
    """Somebody's implementation, and the encoding that it documents itself to be.

    Parameters
    ----------
    name : str
    package : str
        As it is installed, for its version.
    rope : RoPE
    make : callable
        Without arguments; gives ``fn(x, positions)``.
    library : str, default "torch"
        The module whose arrays ``fn`` takes.
    max_position : int, default 2**20
        What ``fn`` was made for.
    """

    name: str
    package: str
    rope: RoPE
    make: Callable[[], Callable]
    library: str = "torch"
    max_position: int = MILLION

    @property
    def xp(self):
        return importlib.import_module(self.library)

    @property
    def version(self):
        return metadata.version(self.package)


PEERS: list[Peer] = []


def peer(name, package, rope, **options):
    """Add what the function below it makes to the list."""

    def add(make):
        PEERS.append(Peer(name, package, rope, make, **options))
        return make

    return add
