"""Ours beside its peers, for equality and for speed: ``nox -s bench``. The ordinary tests do not enter."""
