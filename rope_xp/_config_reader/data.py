"""The JSON files of this package, in which models are described as data."""

import pkgutil


def text_of(name: str) -> str:
    """The text of a file, ``"gguf/gguf.json"``.

    `pkgutil`, because `importlib.resources` takes longer to import than a config takes to be read.
    """
    return (pkgutil.get_data(__package__, name) or b"").decode()
