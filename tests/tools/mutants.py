"""Small sabotages of the library, each of which the tests must catch: ``python tests/tools/mutants.py``.

A mutant is one replacement in a copy of the package, a row of `mutant_rows`. Survivors are printed
and fail the run. ``-k TEXT`` takes the rows that contain a text, ``--backend torch`` those of one
library, and ``--check`` only says which rows do not match the code.

The rows of each library have a process, which imports the library, pytest and other slow modules
once, but never rope_xp; each mutant's tests run in forks of it. The test that caught a mutant before,
in ``mutant_tests.json``, runs first, and mostly that is all; ``--record`` writes it again. For the rest
the tests run once in a copy with a probe at every row. So it is known which tests get to a row: these
run first, the quickest in front, then all others. Only what passes all has survived.
"""

import argparse
import ast
import compileall
import contextlib
import gc
import importlib.util
import itertools
import json
import os
import resource
import runpy
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import defaultdict, deque
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "rope_xp"
CAUGHT_BY = Path(__file__).with_name("mutant_tests.json")  # library: {row: name of a test}
# Imported before the forks: modules alone, because the threads of a library would be lost in them.
WARM = ["pytest", "hypothesis", "mpmath", "ml_dtypes", "array_api_compat.numpy", "numpy.testing"]
LIBRARIES = {
    "numpy": [],
    "fast": ["llvmlite.binding"],
    "torch": ["torch", "torch._dynamo", "array_api_compat.torch", "llvmlite.binding"],
    "jax": ["jax.numpy"],
    "dask": ["dask.array", "array_api_compat.dask.array"],
    "strict": ["array_api_strict"],
}
# Of other libraries than NumPy not all tests, but those which notice their rows.
GUARDS, KERNELS = "tests/backends/test_guards.py", "tests/backends/test_kernels.py"
MACHINE_CODE = "tests/backends/test_machine_code.py"
CUDA = "tests/backends/test_cuda_source.py"
DISTRIBUTED, SHARDING = (
    f"tests/backends/test_{what}.py" for what in ("torch_distributed", "jax_sharding")
)
CITIZENS = [
    f"tests/backends/test_{what}.py" for what in ("citizens", "unsupported", "host_constants")
]
TESTS = {
    "numpy": ["tests/unit", "tests/messages", "tests/configs", KERNELS, CUDA],
    "fast": [GUARDS, KERNELS, MACHINE_CODE],
    "torch": [
        GUARDS,
        "tests/backends/test_torch_transforms.py",
        KERNELS,
        CUDA,
        *CITIZENS,
        DISTRIBUTED,
    ],
    "jax": [
        GUARDS,
        SHARDING,
        "tests/unit/test_rotation.py",
        *(
            f"tests/backends/test_jax.py::test_{what}"
            for what in (
                "jit_joins_otherwise_and_gives_the_same",
                "eager_arrays_are_rounded_as_by_single_operations",
                "an_eager_rotation_is_one_compiled_call",
                "compiled_programs_make_tables_once",
                "tables_of_rounded_products_are_made_once",
            )
        ),
    ],
    "dask": ["tests/unit/test_rotation.py", "tests/backends/test_dask.py"],
    "strict": [GUARDS, "tests/messages/test_libraries.py", "tests/unit"],
}
# They read the source, and would see any change of some texts, whatever it does.
LEFT_OUT = ["tests/unit/test_structure.py", "tests/unit/test_words.py"]
# Part of the paths of a unit's tests, where that is not its name.
OWN_TESTS = {
    "_backends": "libraries",
    "_config_reader": "configs",
    "_exact_phases": "phases",
    "_validation": "messages",
}
FEW = 12  # tests that run before all others that get to a row
MINUTES = 10  # of CPU time, after which a mutant that goes on for ever counts as caught


class Row(NamedTuple):
    unit: str
    old: str
    new: str

    def __str__(self):
        return f"{self.unit}: {self.old.strip()!r} -> {self.new.strip()!r}"


# -- rows and the code -----------------------------------------------------------------------------


def find(row, package=PACKAGE):
    """The one file of the row's unit that has its text; ValueError unless the text is there once."""
    unit = package / row.unit
    files = [unit.with_suffix(".py"), *sorted(unit.rglob("*.py")), *sorted(unit.rglob("*.json"))]
    texts = {file: file.read_text() for file in files if file.exists()}
    counts = {file: text.count(row.old) for file, text in texts.items()}
    if sum(counts.values()) != 1:
        where = ", ".join(f"{n} in {file.name}" for file, n in counts.items() if n) or "none"
        msg = (
            f"{row}: the text must occur once in {row.unit!r}, got {where if texts else 'no file'}"
        )
        raise ValueError(msg)
    file = max(counts, key=counts.get)
    changed = texts[file].replace(row.old, row.new)
    try:
        ast.parse(changed) if file.suffix == ".py" else json.loads(changed)
    except (SyntaxError, ValueError) as error:
        msg = f"{row}: {file.name} cannot be read with the new text, {error}"
        raise ValueError(msg) from None
    return file.relative_to(package)


def broken(rows, package=PACKAGE):
    """A sentence for each row that names no one place."""
    for row in rows:
        try:
            find(row, package)
        except ValueError as error:
            yield str(error)


def statement(tree, line):
    """The innermost statement at ``line``, if a function runs it.

    None for what importing runs, and inside of nested functions.
    """
    around = [
        node
        for node in ast.walk(tree)  # from outside to inside
        if isinstance(node, ast.stmt) and node.lineno <= line <= node.end_lineno
    ]
    functions = sum(isinstance(node, ast.FunctionDef) for node in around[:-1])
    return around[-1] if functions == 1 else None


class Probes(ast.NodeTransformer):
    """Puts a probe in front of statements: it adds the number of a row to ``sys.reached``."""

    def __init__(self, numbers):
        self.numbers = numbers  # statement: numbers of rows

    def visit(self, node):
        self.generic_visit(node)
        probes = [
            ast.parse(f"__import__('sys').__dict__.setdefault('reached', set()).add({n})").body
            for n in self.numbers.get(node, ())
        ]
        return [*itertools.chain(*probes), node] if probes else node


def add_probes(rows, package):
    at = defaultdict(list)
    for number, row in enumerate(rows):
        at[find(row, package)].append((number, row))
    for file in (package / file for file in at if file.suffix == ".py"):
        text = file.read_text()
        tree, numbers = ast.parse(text), defaultdict(list)
        for number, row in at[file.relative_to(package)]:
            start = text.index(row.old) + len(row.old) - len(row.old.lstrip())
            node = statement(tree, text.count("\n", 0, start) + 1)
            if node is not None:
                numbers[node].append(number)
        file.write_text(ast.unparse(Probes(numbers).visit(tree)))


# -- tests in forks --------------------------------------------------------------------------------


class Choice:
    """For pytest: which tests run, in which order, and what is found out about them."""

    def __init__(self, wanted=None, done=()):
        self.wanted = None if wanted is None else {name: i for i, name in enumerate(wanted)}
        self.done = set(done)
        self.found = []

    def pytest_collection_modifyitems(self, items):
        if self.wanted is None:
            items[:] = [item for item in items if item.nodeid not in self.done]
        else:
            items[:] = [item for item in items if item.nodeid in self.wanted]
            items.sort(key=lambda item: self.wanted[item.nodeid])

    def pytest_runtest_logstart(self):
        sys.reached, self.failed, self.start = set(), False, time.process_time()

    def pytest_runtest_logreport(self, report):
        self.failed = self.failed or report.failed

    def pytest_runtest_logfinish(self, nodeid):
        seconds = time.process_time() - self.start
        self.found.append(Test(nodeid, seconds, self.failed, tuple(sys.reached)))


class Test(NamedTuple):
    name: str
    seconds: float
    failed: bool
    reached: tuple[int, ...]  # numbers of rows

    @property
    def file(self):
        return self.name.partition("::")[0]


class Trial(NamedTuple):
    """One run of tests on the copy of the package in a folder."""

    folder: Path
    files: list[str]
    choice: Choice
    options: tuple[str, ...] = ()

    def run(self):
        """In a fork, to its end."""
        import hypothesis.configuration
        import pytest

        sys.path.insert(0, str(self.folder))
        # For the processes that tests start; safe: not the package in the current folder.
        os.environ.update(PYTHONPATH=str(self.folder), PYTHONSAFEPATH="1")
        hypothesis.configuration.set_hypothesis_home_dir(self.folder / "hypothesis")
        limit = 60 * MINUTES
        resource.setrlimit(resource.RLIMIT_CPU, (limit, limit))
        signal.alarm(2 * limit)  # of one that waits for ever
        # Plain assertions: to explain a failed one, pytest compares long results for minutes.
        options = [*self.options, "-q", "--tb=short", "--assert=plain"]
        options += [f"--basetemp={self.folder / 'tmp'}"]
        code = pytest.main([*options, *self.files], [self.choice])
        used = getattr(sys.modules.get(PACKAGE.name), "__file__", None)
        if used is not None and Path(used).parent != self.folder / PACKAGE.name:
            msg = f"the tests used {used}, not the copy in {self.folder}"
            raise RuntimeError(msg)
        (self.folder / "found.json").write_text(json.dumps(self.choice.found))
        return code

    def fork(self):
        """The id of a process that runs it."""
        sys.stdout.flush()
        pid = os.fork()
        if pid:
            return pid
        code = 70
        try:
            log = os.open(self.folder / "log", os.O_WRONLY | os.O_CREAT)
            os.dup2(log, 1)
            os.dup2(log, 2)
            code = self.run()
        except BaseException:  # noqa: BLE001 - what comes after the fork is not for it
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    def outcome(self, code):
        """Whether all tests passed, and what was found of each; SystemExit unless tests decided."""
        found = self.folder / "found.json"
        tests = [Test(*each) for each in json.loads(found.read_text())] if found.exists() else []
        # 1: a test failed, 2: a file could not be imported, 5: no tests, < 0: crash, or out of time
        if code not in (0, 1, 2, 5) and code > 0:
            raise SystemExit((self.folder / "log").read_text())
        return code in (0, 5), tests


def side_by_side(jobs, workers):
    """Run jobs: generators that yield a `Trial` and are sent the code with which it ended."""
    waiting, running = deque((job, None) for job in jobs), {}
    try:
        while waiting or running:
            while waiting and len(running) < workers:
                job, code = waiting.popleft()
                with contextlib.suppress(StopIteration):
                    running[job.send(code).fork()] = job
            if running:
                pid, status = os.wait()
                waiting.appendleft((running.pop(pid), os.waitstatus_to_exitcode(status)))
    finally:
        for pid in running:
            os.kill(pid, signal.SIGKILL)


# -- one library -----------------------------------------------------------------------------------


class Library:
    """The rows of one library, in a folder with copies of the package."""

    def __init__(self, name, rows, folder):
        self.name, self.rows, self.folder = name, rows, Path(folder)
        self.tests, self.failed, self.survivors = [], [], []
        recorded = json.loads(CAUGHT_BY.read_text()).get(name, {}) if CAUGHT_BY.exists() else {}
        by_row = {number: recorded.get(str(row)) for number, row in enumerate(rows)}
        self.caught_by = {number: test for number, test in by_row.items() if test is not None}
        self.uncaught = [number for number, test in by_row.items() if test is None]
        self.clean, self.probed = self.folder / "clean", self.folder / "probed"
        for place in (self.clean, self.probed):
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(PACKAGE, place / PACKAGE.name, ignore=ignored)
        for place in (self.clean, self.probed):
            compileall.compile_dir(place, quiet=1)

    def copy(self, name, original):
        return Path(shutil.copytree(original, self.folder / name))

    def files(self, unit=""):
        """Files of tests, those of a unit in front."""
        paths = [ROOT / name for name in TESTS[self.name]]
        files = [f for p in paths for f in (sorted(p.rglob("test_*.py")) if p.is_dir() else [p])]
        names = [file.relative_to(ROOT).as_posix() for file in files]
        names = [name for name in names if name not in LEFT_OUT]
        if self.name != "numpy":
            return names  # few, and in order
        own = OWN_TESTS.get(unit, unit.strip("_"))
        return sorted(names, key=lambda name: own not in name)

    def without_mutant(self, file, original, names=None):
        """A job: the tests of a file, or some of them, and which rows each of them gets to."""
        folder = self.copy(file.replace("/", " "), original)
        trial = Trial(folder, [file], Choice(names))
        passed, tests = trial.outcome((yield trial))
        self.tests += tests
        if not passed:
            self.failed.append((trial.folder / "log").read_text())
        shutil.rmtree(folder)

    def choices(self, number):
        """Files and tests in them, those that are likeliest to notice in front."""
        unit = self.rows[number].unit
        reach = sorted((t for t in self.tests if number in t.reached), key=lambda t: t.seconds)
        for some in (reach[:FEW], reach[FEW:]):
            if some:
                yield sorted({t.file for t in some}), Choice([t.name for t in some])
        yield self.files(unit), Choice(done=[t.name for t in reach])

    def with_mutant(self, number, choices=None):
        """A job: one row, with the choices of tests that are given, or with all tests."""
        row, start = self.rows[number], time.monotonic()
        for files, choice in choices or self.choices(number):
            folder = self.copy(str(number), self.clean)
            path = folder / PACKAGE.name
            path /= find(row, path)
            path.write_text(path.read_text().replace(row.old, row.new))
            # Of a file of the same size, written in the same second, it would pass for new.
            for bytecode in path.parent.glob(f"__pycache__/{path.stem}.*.pyc"):
                bytecode.unlink()
            trial = Trial(folder, files, choice, ("-x",))
            passed, tests = trial.outcome((yield trial))
            shutil.rmtree(folder)
            if not passed:
                by = next((t.name for t in tests if t.failed), "the import, a crash or the clock")
                print(f"caught   {row} by {by} ({time.monotonic() - start:.1f} s)", flush=True)
                self.caught_by[number] = by
                return
        if choices:
            self.uncaught.append(number)
            return
        self.survivors.append(row)
        print(f"SURVIVED {row} ({time.monotonic() - start:.1f} s)", flush=True)

    def require_passed(self):
        if self.failed:
            raise SystemExit("\n".join(["Tests fail without a mutant.", *self.failed]))

    def run(self, workers):
        """First each row by the test that is recorded for it, then those that it has not caught."""
        recorded = {
            number: (test.partition("::")[0], [test]) for number, test in self.caught_by.items()
        }
        names = defaultdict(list)
        for file, tests in recorded.values():
            names[file] += tests
        some = [self.without_mutant(file, self.clean, tests) for file, tests in names.items()]
        side_by_side(some, workers)
        self.require_passed()
        once = [
            self.with_mutant(number, [([file], Choice(tests))])
            for number, (file, tests) in recorded.items()
        ]
        side_by_side(once, workers)
        if not self.uncaught:
            return
        if self.name != "torch":  # whose compiler would stumble over them
            add_probes(self.rows, self.probed / PACKAGE.name)
            compileall.compile_dir(self.probed, quiet=1, force=True)
        side_by_side([self.without_mutant(file, self.probed) for file in self.files()], workers)
        self.require_passed()
        side_by_side([self.with_mutant(number) for number in self.uncaught], workers)


def run_library(name, rows, workers, *, record=False):
    """In a process of its own: what it imports is not for other libraries. The number of survivors."""
    backend = "numpy" if name == "fast" else name
    os.environ.update(ROPE_XP_BACKEND=backend, PYTEST_DISABLE_PLUGIN_AUTOLOAD="1")
    os.chdir(ROOT)
    for module in (*WARM, *LIBRARIES[name]):
        importlib.import_module(module)
    if name == "numpy":
        sys.modules["llvmlite"] = (
            None  # as if it were not installed: it takes over from other kernels
        )
    gc.freeze()  # collecting garbage in a fork need not look at all this
    sys.dont_write_bytecode = False  # of tests, so that they are compiled once
    with tempfile.TemporaryDirectory() as folder:
        library = Library(name, rows, folder)
        library.run(workers)
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    seconds = sum(u.ru_utime + u.ru_stime for u in used)
    alive = len(library.survivors)
    print(f"{name}: {len(rows) - alive} of {len(rows)} mutants caught; {seconds:.0f} s of CPU time")
    for row in library.survivors:
        print(f"  survived: {row}")
    if record:
        known = json.loads(CAUGHT_BY.read_text()) if CAUGHT_BY.exists() else {}
        caught = {str(rows[number]): test for number, test in sorted(library.caught_by.items())}
        known[name] = {row: test for row, test in caught.items() if "::" in test}
        CAUGHT_BY.write_text(json.dumps(known, indent=1, ensure_ascii=False) + "\n")
    return alive


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="only list rows that do not match")
    parser.add_argument("--backend", choices=LIBRARIES, help="rows of one library")
    parser.add_argument("-k", metavar="TEXT", default="", help="rows that contain this")
    parser.add_argument("--record", action="store_true", help="write which test caught which row")
    parser.add_argument("-n", type=int, default=os.cpu_count(), help="processes side by side")
    options = parser.parse_args()
    table = runpy.run_path(str(Path(__file__).with_name("mutant_rows.py")))["ROWS"]
    table = {
        name: [row for row in (Row(*row) for row in rows) if options.k in str(row)]
        for name, rows in table.items()
        if options.backend in (None, name)
    }
    sentences = [sentence for rows in table.values() for sentence in broken(rows)]
    if sentences or options.check:
        print(*sentences, sep="\n")
        print(f"{len(sentences)} of {sum(map(len, table.values()))} rows do not match the code")
        sys.exit(bool(sentences))
    if options.backend:
        rows, record = table[options.backend], options.record
        sys.exit(run_library(options.backend, rows, options.n, record=record) > 0)
    if options.record and options.k:
        parser.error("--record takes all rows, without -k")
    failed = False
    for name, rows in table.items():
        missing = [m for m in LIBRARIES[name] if importlib.util.find_spec(m.split(".")[0]) is None]
        if missing:
            print(f"{name}: {missing[0]} is not installed, {len(rows)} mutants are left out")
        elif rows:
            again = [sys.executable, __file__, *sys.argv[1:], "--backend", name]
            failed |= subprocess.run(again, check=False).returncode != 0
    sys.exit(failed)


if __name__ == "__main__":
    main()
