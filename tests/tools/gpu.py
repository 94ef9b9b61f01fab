"""All that waits for a GPU, in less than ten minutes, and one JSON of it: ``nox -s gpu``.

    python tests/tools/gpu.py gpu.json

The tests of CuPy and of torch's tensors on the GPU, with the kernel for CUDA; benchmarks against a copy and
against kernels of others. The file is written after each step, so that what was found before an
interruption is there. Without a GPU it is not written.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from pathlib import Path

ROOT = Path(__file__).parents[2]
# Each step, the seconds that it may take, and what pytest gets. Tests of the kernel come first.
KERNEL = ["tests/backends/test_on_gpu.py", "tests/backends/test_cuda_source.py"]
TESTS = [*KERNEL, "tests/unit", "tests/backends/test_cupy.py", "tests/backends/test_citizens.py"]
STEPS = {
    "cupy": (150, TESTS, {"ROPE_XP_BACKEND": "cupy"}),
    "torch-cuda": (150, [*KERNEL, "tests/unit"], {"ROPE_XP_BACKEND": "torch", "ROPE_XP_GPU": "1"}),
    "benchmarks": (270, ["tests/benchmarks/test_gpu.py", "-q", "--benchmark-quiet"], {}),
}


def output(*command):
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip()


def why_not():
    """A sentence, or None where there is a GPU."""
    if shutil.which("nvidia-smi") is None:
        return (
            "this machine has no nvidia-smi, so no GPU that CUDA knows: nothing was run or written"
        )
    if not output("nvidia-smi", "--list-gpus"):
        return "nvidia-smi lists no GPU: nothing was run or written"
    return None


def machine():
    commit, changed = output("git", "rev-parse", "HEAD"), output("git", "status", "--porcelain")
    query = "--query-gpu=name,driver_version,memory.total"
    return {
        "commit": commit,
        "uncommitted_changes": bool(changed),
        "device": output("nvidia-smi", query, "--format=csv,noheader").splitlines(),
    }


def run(seconds, arguments, environment, folder):
    """What pytest found: counts, names of what failed, and whether the time was enough."""
    report = Path(folder, "junit.xml")
    report.unlink(missing_ok=True)
    command = [sys.executable, "-m", "pytest", f"--junitxml={report}", *arguments]
    start = time.monotonic()
    process = subprocess.Popen(command, cwd=ROOT, env={**os.environ, **environment})
    finished = True
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        finished = False
        process.send_signal(signal.SIGINT)  # pytest then writes what it has found
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    took = round(time.monotonic() - start)
    return {"finished": finished, "seconds": took, "exit": process.returncode, **counts(report)}


def counts(report):
    """Of pytest's report."""
    if not report.exists():
        return {}
    cases = list(ET.parse(report).getroot().iter("testcase"))

    def named(*kinds):
        hits = [case for case in cases if any(case.find(kind) is not None for kind in kinds)]
        return [f"{case.get('classname')}::{case.get('name')}" for case in hits]

    failed, skipped = named("failure", "error"), named("skipped")
    return {
        "passed": len(cases) - len(failed) - len(skipped),
        "failed": failed,
        "skipped": len(skipped),
    }


def bandwidth(ratio):
    """GB/s of a copy and of a rotation that is compared with one: each byte is read and written."""
    size = {"float16": 2, "bfloat16": 2, "float32": 4}[ratio["dtype"]]
    for n in ratio["shape"].partition(",")[0].split("×"):
        size *= int(n)
    return {
        "case": ratio["case"],
        "shape": ratio["shape"],
        "dtype": ratio["dtype"],
        "copy_gb_per_s": round(2 * size / (1e6 * ratio["peer_ms"])),
        "ours_gb_per_s": round(2 * size / (1e6 * ratio["ours_ms"])),
    }


def main(path):
    if reason := why_not():
        sys.exit(reason)
    found = machine() | {"ROPE_XP_CUDA": "1", "tests": {}}
    os.environ["ROPE_XP_CUDA"] = "1"
    with tempfile.TemporaryDirectory() as folder:
        figures = Path(folder, "figures.json")
        for name, (seconds, arguments, environment) in STEPS.items():
            environment = {**environment, "ROPE_XP_SPEED_JSON": str(figures)}
            found["tests"][name] = run(seconds, arguments, environment, folder)
            if figures.exists():
                measured = json.loads(figures.read_text())
                copies = [ratio for ratio in measured["ratios"] if ratio["against"] == "copy"]
                found |= {"bandwidth": [bandwidth(ratio) for ratio in copies], **measured}
            Path(path).write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")
    print(f"written: {path}")
    passed = all(step["finished"] and step["exit"] == 0 for step in found["tests"].values())
    sys.exit(0 if passed else f"not all of it passed: {path} says what")


if __name__ == "__main__":
    main(*sys.argv[1:])
