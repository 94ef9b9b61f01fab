"""Fixtures of the benchmarks. ``--benchmark-disable`` turns them into tests: small, once, no clock.

``ROPE_XP_SPEED_JSON`` names the file to write, ``ROPE_XP_BENCH_GIB`` how large arrays may grow.
"""

import contextlib
import importlib
import importlib.util
import os

import numpy as np
import pytest

from benchmarks import measure
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


@contextlib.contextmanager
def without_fast():
    """The library as if numba were not installed."""
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
        if importlib.util.find_spec("numba") is None:
            report.leave_out(f"{case}, fast", "numba is not installed")
            pytest.skip(f"{case}: numba is not installed")
        return contextlib.nullcontext()

    return context


@pytest.fixture
def compare_clocks(benchmark, report, pytestconfig):
    """Which of two clocks returns less. A clock is called without arguments and returns seconds."""

    def run(case, against, *, ours, peer, problem="", dtype="", limit=None, fast=None, rounds=11):
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
        report.ratios.append(
            measure.Ratio(case, against, str(problem), dtype, fast, limit, **found)
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
        compare_clocks(case, against, ours=ours, peer=peer, dtype=dtype, rounds=rounds, **options)

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
