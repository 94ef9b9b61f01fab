"""Fixtures of the benchmarks. ``--benchmark-disable`` turns them into tests: small, once, no clock.

``ROPE_XP_SPEED_JSON`` names the file to write, ``ROPE_XP_BENCH_GIB`` how large arrays may grow.
"""

import contextlib
import importlib
import importlib.util
import os

import numpy as np
import pytest

from benchmarks import measure, peers
from rope_xp._kernels import llvm_cpu

REPORT = pytest.StashKey()

if importlib.util.find_spec("pytest_benchmark") is None:

    @pytest.fixture
    def benchmark():
        pytest.skip("pytest-benchmark is not installed; nox -s bench brings it and the peers")


def pytest_collection_modifyitems(items):
    for item in items:
        if "benchmarks" in item.path.parts:
            # Peers warn about each other's versions; the ordinary tests check that ours does not warn.
            item.add_marker(pytest.mark.filterwarnings("default"))


def pytest_generate_tests(metafunc):
    if "sized" in metafunc.fixturenames:
        small = metafunc.config.getoption("benchmark_disable", False)
        sizes = peers.FEW_SIZES if small else peers.SIZES
        metafunc.parametrize("sized", sizes, ids=peers.name, indirect=True)


@contextlib.contextmanager
def without_fast():
    """The library as if llvmlite were not installed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ROPE_XP_FAST", "0")
        llvm_cpu._status.cache_clear()  # it reads the environment once
        try:
            yield
        finally:
            llvm_cpu._status.cache_clear()


@pytest.fixture(scope="session")
def report(pytestconfig):
    return pytestconfig.stash.setdefault(REPORT, measure.Report())


@pytest.fixture
def timed(benchmark):
    """Whether the clock counts."""
    return benchmark.enabled


@pytest.fixture
def need(report):
    """``need(case, *modules)`` imports them, or skips, and the report says what was not measured."""

    def imported(case, *names):
        found = []
        for name in names:
            try:
                found.append(importlib.import_module(name))
            except ImportError:
                reason = f"{name.partition('.')[0]} is not installed"
                report.leave_out(case, reason)
                pytest.skip(f"{case}: {reason}")
        return found[0] if len(found) == 1 else found

    return imported


@pytest.fixture
def choose(report):
    """``with choose(case, fast):`` runs with the extra, or as if it were not there."""

    def context(case, fast):
        if not fast:
            return without_fast()
        if importlib.util.find_spec("llvmlite") is None:
            report.leave_out(f"{case}, fast", "llvmlite is not installed")
            pytest.skip(f"{case}: llvmlite is not installed")
        return contextlib.nullcontext()

    return context


@pytest.fixture
def compare_clocks(benchmark, report, pytestconfig):
    """Which of two clocks returns less. A clock is called without arguments and returns seconds."""

    def run(
        case,
        against,
        *,
        ours,
        peer,
        use,
        problem="",
        dtype="",
        limit=None,
        fast=None,
        passes=None,
        rounds=11,
    ):
        """``passes``: arrays like the problem's that are read or written, at least."""
        if not benchmark.enabled:
            benchmark.pedantic(ours)
            return
        times = [], []
        # pytest-benchmark times one function after the other. Here the peer is its setup function,
        # called before each round, so that the two take turns; both use the same clock of ours.
        benchmark.pedantic(
            lambda: times[0].append(ours()),
            setup=lambda: times[1].append(peer()),
            rounds=rounds,
        )
        found = measure.judge(*times, limit)
        benchmark.extra_info.update(found)
        kib = passes and passes * problem.token_bytes(dtype) / 1024
        report.ratios.append(
            measure.Ratio(case, against, str(problem), dtype, fast, use, kib, limit, **found)
        )

    return run


@pytest.fixture
def compare(compare_clocks, timed, pytestconfig):
    """Ours against a peer: the same numbers first, then which is faster."""

    def run(
        case,
        against,
        *,
        ours,
        peer,
        dtype="float32",
        use="prefill",
        expected=None,
        numpy=np.asarray,
        slack=0.0,
        **options,
    ):
        """``expected`` computes what ours must equal if the peer only copies; ``numpy`` converts."""

        def arrays(result):
            # Copies, because a contender may write into the same array every time.
            pieces = result if isinstance(result, tuple) else (result,)
            return tuple(np.array(numpy(piece)) for piece in pieces)

        wanted = arrays((expected or peer)())
        measure.assert_same(arrays(ours()), wanted, dtype, slack)
        repeat, rounds = 1, 1
        if timed:
            seconds = float(pytestconfig.getoption("benchmark_max_time"))
            fewest = int(pytestconfig.getoption("benchmark_min_rounds"))
            repeat, rounds = measure.plan(ours, peer, seconds, fewest)
        ours, peer = measure.clock(ours, repeat), measure.clock(peer, repeat)
        options = {**options, "use": use, "dtype": dtype, "rounds": rounds}
        compare_clocks(case, against, ours=ours, peer=peer, **options)

    return run


@pytest.fixture
def sized(request, report):
    """One of many sizes, from less than a token on; those that do not fit are left out."""
    problem = request.param
    allowed = float(os.environ.get("ROPE_XP_BENCH_GIB", "0.25")) * 2**30
    memory = measure.machine().get("memory_gib", 8) * 2**30
    # Formulas keep five results at a time.
    if problem.nbytes > min(allowed, memory / 10):
        reason = "larger than ROPE_XP_BENCH_GIB, or than a tenth of the memory"
        report.leave_out(f"by size, {problem.nbytes / 2**20:g} MiB", reason)
        pytest.skip(f"{problem}: {reason}")
    return problem


@pytest.fixture
def compare_all(benchmark, report, timed):
    """Several contenders on one size: equality, then times for a figure, and ratios for the table."""

    def run(library, layout, problem, contenders, *, copy, limits, numpy=np.asarray):
        """``contenders``: {name: function} or {name: (context, function)}; the first is right, and
        ``copy`` only copies. ``limits``: {(ours, peer): limit}."""
        contexts = {
            name: each if isinstance(each, tuple) else (contextlib.nullcontext, each)
            for name, each in contenders.items()
        }
        some = (..., slice(None, None, max(1, problem.shape[-2] // 256)), slice(None))
        wanted = None
        for name, (context, function) in contexts.items():
            with context():
                found = np.array(numpy(function()[some]))
            wanted = found if wanted is None else wanted
            if name != copy:
                measure.assert_same(found, wanted, "float32")
        if not timed:
            benchmark.pedantic(contexts[name][1])
            return
        large = problem.nbytes > 2**27
        times, a_round, rounds = measure.in_turn(contexts, 0.6, 3 if large else 7)
        benchmark.pedantic(a_round, rounds=rounds)
        # The fastest round: what a size costs, not what else the machine did.
        ns = {name: measure.digits(1e9 * min(each) / problem.size) for name, each in times.items()}
        line = {"library": library, "layout": layout, "shape": str(problem)}
        report.sizes.append({**line, "kib": problem.nbytes / 1024, "ns": ns})
        for (ours, peer), limit in limits.items():
            found = measure.judge(times[ours], times[peer], limit)
            case = f"by size, {library}, {layout}: {ours}"
            line = case, peer, str(problem), "float32", None, "sizes", None, limit
            report.ratios.append(measure.Ratio(*line, **found))

    return run


@pytest.fixture
def remember_memory(report):
    """What a case needs at its peak, as a multiple of ``unit`` bytes."""

    def run(case, against, problem, dtype, limit, found, unit):
        if found is None or unit is None:
            report.leave_out(case, "this system does not report the peak memory of a process")
            pytest.skip(f"{case}: this system does not report the peak memory of a process")
        ratio = measure.digits(found / unit)
        verdict = "ok" if ratio <= limit else "over"
        line = {"case": case, "against": against, "shape": str(problem), "dtype": dtype}
        report.memory.append({**line, "ratio": ratio, "limit": limit, "verdict": verdict})

    return run


def pytest_terminal_summary(terminalreporter, config):
    report = config.stash.get(REPORT, None)
    if report is None:
        return
    if report.ratios:
        terminalreporter.section("ours / peer, at most the limit")
        terminalreporter.write_line(measure.table(report))
        noisy = sum(r.verdict == "too noisy" for r in report.ratios)
        terminalreporter.write_line(f"{noisy} of {len(report.ratios)} cases too noisy to tell")
    path = os.environ.get("ROPE_XP_SPEED_JSON")
    if path and report.ratios:
        measure.write(report, path)
        terminalreporter.write_line(f"written: {path}")
