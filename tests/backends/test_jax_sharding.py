"""JAX arrays that are spread over 8 devices: `jax_sharding`, in one process that has them."""

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.backend("jax")
if importlib.util.find_spec("jax") is None:
    pytest.skip("jax is not installed", allow_module_level=True)

BODY = Path(__file__).with_name("jax_sharding.py")
CHECKS = re.findall(r"^def (check_\w+)", BODY.read_text("utf-8"), re.MULTILINE)


@pytest.fixture(scope="module")
def found():
    """What each check raised, by its name."""
    environment = {
        **os.environ,
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": "--xla_force_host_platform_device_count=8",
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    command = [sys.executable, str(BODY)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("check", CHECKS)
def test_on_eight_devices(check, found):
    assert found[check] is None, found[check]
