"""torch on CUDA devices: kernels of our own, by the NVRTC that torch ships and by the driver.

torch has no public function that starts one: ``torch.cuda._compile_kernel`` is experimental and wants an
installed CUDA toolkit (``CUDA_HOME``). Triton takes no C.
"""

from __future__ import annotations

import functools
from typing import Any

from rope_xp._backends import cuda_driver
from rope_xp._backends.library import Array


@functools.cache
def is_available() -> bool:
    """Whether NVRTC and the driver are there; where torch has CUDA and they are not, a warning."""
    import torch

    if torch.version.cuda is None:  # ROCm's devices are "cuda", too
        return False
    needed = {"NVRTC": nvrtc(), "driver": cuda_driver.driver()}
    missing = [name for name, library in needed.items() if library is None]
    if missing:
        import warnings

        msg = (
            f"ROPE_XP_CUDA=1 needs CUDA's {' and '.join(missing)}: not found, rotations do without"
        )

        warnings.warn(msg, RuntimeWarning, stacklevel=2)
    return not missing


def nvrtc() -> Any:
    """Of torch's version of CUDA: as torch finds it, or where its wheels put it."""
    from pathlib import Path

    import torch

    version = torch.version.cuda.partition(".")[0]
    home = Path(torch.__file__).parent
    wheels = sorted((home.parent / "nvidia").glob(f"*/lib/libnvrtc.so.{version}"))
    inside = sorted((home / "lib").glob("libnvrtc-*.so*"))
    return cuda_driver.load_nvrtc(
        *(str(home / "lib" / "libcaffe2_nvrtc.so"), f"libnvrtc.so.{version}"),
        *map(str, (*wheels, *inside)),
        f"nvrtc64_{version}0_0.dll",
    )


def launch(
    kernel: tuple[str, str],
    grid: tuple[int, int],
    arrays: tuple[Array, ...],
    numbers: tuple[int, ...],
) -> None:
    import torch

    device = arrays[0].device
    with torch.cuda.device(device):
        cuda_driver.ensure_context(device.index)
        function = _function(*kernel, device)
        stream = torch.cuda.current_stream(device).cuda_stream
        addresses = tuple(tensor.data_ptr() for tensor in arrays)
        cuda_driver.launch(function, grid, stream, addresses, numbers)


@functools.cache
def _function(source: str, name: str, device: Any) -> Any:
    """The kernel on this device, which is the current one."""
    import torch

    major, minor = torch.cuda.get_device_capability(device)
    code = cuda_driver.compile_source(nvrtc(), source, f"sm_{major}{minor}")
    return cuda_driver.load_function(code, name)
