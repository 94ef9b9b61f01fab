"""The array libraries that tests run on.

`lib` is each library in turn. ``ROPE_XP_BACKEND`` names one (as nox does): then it must be there, and
only its tests run. They are those with `lib` and those marked ``backend("torch")``; tests with
neither need no array library and belong to NumPy's. Without ``ROPE_XP_BACKEND``, tests run on every
library that is installed, and say which are not.

On JAX, `lib` calls the library under ``jax.jit`` (`under_jit`), with 32 bits, but

* tests marked `eager` run operation by operation: they compare bits, which a compiled program may
  round otherwise, or are about what eager arrays do;
* tests marked `x64` run once more with 64-bit types, because their results have some.
"""

import contextlib
import functools
import importlib
import os
from dataclasses import dataclass

import numpy as np
import pytest

with contextlib.suppress(ImportError):  # the examples are tested without hypothesis
    from hypothesis import HealthCheck, settings

    # A busy machine is no finding.
    settings.register_profile("calm", deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("calm")

# What each library needs besides NumPy, and the variants in which it is tried.
MODULES = {
    "numpy": None,
    "strict": "array_api_strict",
    "torch": "torch",
    "jax": "jax",
    "dask": "dask.array",
    "cupy": "cupy",
}
VARIANTS = {"strict": ["strict", "strict-no_x64"], "jax": ["jax", "jax-x64"]}
if os.environ.get("ROPE_XP_GPU"):  # nox -s gpu
    VARIANTS["torch"] = ["torch-cuda"]


@dataclass
class Library:
    """One array library, with what tests need to go there and back."""

    name: str
    xp: object
    has_float64: bool = True
    device: object = None

    def array(self, values, dtype=None):
        """An array of this library; ``dtype`` is a name."""
        values = np.asarray(values)
        name = dtype or values.dtype.name
        if not self.has_float64:
            name = {"float64": "float32", "int64": "int32", "uint64": "uint32"}.get(name, name)
        if self.name == "dask":
            values = values.astype(name)
            return self.xp.from_array(
                values, chunks=tuple(max(1, -(-n // 2)) for n in values.shape)
            )
        if self.name == "numpy":
            return values.astype(self.dtype(name))
        if values.dtype.name not in ("float64", "float32", "bool"):
            values = values.astype(np.int64 if self.has_float64 else np.int32)
        elif not self.has_float64 and values.dtype == np.float64:
            values = values.astype(np.float32)
        return self.xp.asarray(values.copy(), dtype=self.dtype(name), device=self.device)

    def dtype(self, name):
        if self.name == "numpy" and name == "bfloat16":
            return pytest.importorskip(
                "ml_dtypes", reason="NumPy has bfloat16 from ml_dtypes"
            ).bfloat16
        return np.dtype(name) if self.name == "dask" else getattr(self.xp, name)

    def numpy(self, array):
        """A NumPy array, float64 if floating (so also for bfloat16)."""
        if self.name == "dask":
            array = array.compute()
        elif self.name == "torch":
            array = array.detach().cpu()
            array = (array.double() if array.is_floating_point() else array).numpy()
        elif self.name == "cupy":
            array = array.get()
        elif self.name == "strict":
            array = array.to_device(self.xp.Device("CPU_DEVICE"))
        array = np.asarray(array)
        integral = array.dtype.kind in "iub"
        return array if integral else array.astype(np.float64)


def installed(name):
    with contextlib.suppress(ImportError):
        return importlib.import_module(MODULES[name] or "numpy")
    return None


def no_gpu():
    """Why CuPy cannot compute here, or None."""
    cupy = installed("cupy")
    if cupy is None:
        return "cupy is not installed"
    try:
        cupy.zeros(1)
    except Exception as error:  # noqa: BLE001 - whatever the driver says
        return f"no GPU for cupy: {str(error).splitlines()[0]}"
    return None


@functools.cache
def chosen():
    """The libraries to test."""
    only = os.environ.get("ROPE_XP_BACKEND")
    if only is None:
        return list(MODULES)
    if only not in MODULES:
        msg = f"ROPE_XP_BACKEND must be one of {', '.join(MODULES)}, got {only!r}"
        raise pytest.UsageError(msg)
    if installed(only) is None:
        msg = f"ROPE_XP_BACKEND={only}, but it is not installed"
        raise pytest.UsageError(msg)
    return [only]


def pytest_configure():
    chosen()  # a name that is wrong is one error, not one for each file


def pytest_generate_tests(metafunc):
    if "lib" in metafunc.fixturenames:
        names = [v for name in chosen() for v in VARIANTS.get(name, [name])]
        if metafunc.definition.get_closest_marker("x64") is None:
            names = [name for name in names if name != "jax-x64"]
        metafunc.parametrize("lib", names, indirect=True, scope="module")


def pytest_ignore_collect(collection_path):
    """Files named after libraries that were not chosen: even to look into them takes seconds."""
    about = collection_path.stem.split("_")[1:2]  # test_torch_transforms
    return True if set(about) & set(MODULES) - set(chosen()) else None


def pytest_collection_modifyitems(config, items):
    """Leave out tests that belong to libraries which were not chosen."""
    libraries, ours, others = set(chosen()), [], []
    for item in items:
        (ours if belongs(item, libraries) else others).append(item)
    if others:
        config.hook.pytest_deselected(items=others)
        items[:] = ours


def belongs(item, libraries):
    marked = [set(mark.args) for mark in item.iter_markers("backend")]
    for names in marked:
        if unknown := names - set(MODULES):
            msg = f"{item.nodeid}: backend must be one of {', '.join(MODULES)}, got {unknown}"
            raise pytest.UsageError(msg)
    if not marked and "lib" not in getattr(item, "fixturenames", ()):
        marked = [{"numpy"}]
    return all(names & libraries for names in marked)


@pytest.fixture(scope="module")
def lib(request):
    name, _, variant = request.param.partition("-")
    if installed(name) is None:
        pytest.skip(f"{name} is not installed")
    if name == "cupy" and (reason := no_gpu()):
        pytest.skip(reason)
    with contextlib.ExitStack() as stack:
        if name == "numpy":
            yield Library(name, np)
        elif name == "strict":
            xp = importlib.import_module("array_api_strict")
            device = xp.Device(variant) if variant else None
            yield Library(name, xp, has_float64=not variant, device=device)
        elif name == "jax":
            jax = importlib.import_module("jax")
            enable_x64 = getattr(jax, "enable_x64", None)  # since JAX 0.8
            if enable_x64 is None:
                enable_x64 = importlib.import_module("jax.experimental").enable_x64
            stack.enter_context(enable_x64(bool(variant)))
            yield Library(name, jax.numpy, has_float64=bool(variant))
        elif variant == "cuda":
            torch = installed(name)
            if not torch.cuda.is_available():
                pytest.skip("torch finds no GPU")
            yield Library(name, torch, device=torch.device(variant, torch.cuda.current_device()))
        elif name == "dask":  # one thread: blocks are small, and threads would wait for each other
            config = importlib.import_module("dask").config
            stack.enter_context(config.set(scheduler="synchronous"))
            yield Library(name, installed(name))
        else:
            yield Library(name, installed(name))


@pytest.fixture(autouse=True)
def _calls(request, monkeypatch):
    """Calls of the library run under ``jax.jit`` where `lib` is JAX, unless the test is `eager`."""
    if request.node.get_closest_marker("eager") or "lib" not in request.fixturenames:
        return
    if request.getfixturevalue("lib").name == "jax":
        importlib.import_module("under_jit").replace(monkeypatch, request.module)


@pytest.fixture
def rng():
    return np.random.default_rng(20211)
