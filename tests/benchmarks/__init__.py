"""The library beside its peers, for equality and for speed: ``nox -s bench``. Ordinary runs skip this folder."""
